//! From settings to a running server.

use std::{
    future::Future,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use directories::ProjectDirs;
use mcpctl_core::{
    Error, Registry, Result,
    audit::FileSink,
    gateway::{Gateway, GatewaySettings},
    registry::NewAdmin,
    store::SqlStore,
};

use crate::{
    App, Config, ConnectionLimits, Listener, descriptors, gemini, master_key, rekey, serve_on_cores,
    telemetry,
};

/// How long the last audit events may take to be written when the server stops.
const FLUSH: Duration = Duration::from_secs(10);

/// Runs the server until `stop` is done. `announce` gets what a person should read: where it listens, and, at the
/// very first start, the admin's password.
///
/// # Errors
///
/// When the settings are wrong, the database cannot be opened, or the address is taken.
pub async fn run(config: Config, stop: impl Future<Output = ()>, announce: impl FnOnce(&str)) -> Result<()> {
    let data_dir = data_dir(&config)?;
    let gemini = gemini::find(&config, &data_dir)?;
    let listener = Listener::bind(config.listen)
        .map_err(|cause| Error::invalid(format!("cannot listen on {}: {cause}", config.listen)))?
        .with_limits(connection_limits(&config));
    let keys = master_key::load(&config.secrets, &data_dir)?;
    let url = database_url(&config, &data_dir);
    let store = Arc::new(SqlStore::open(&url).await?);
    let mut builder = Registry::builder(store)
        .keyring(keys.ring.clone())
        .max_staleness(config.max_staleness)
        .audit_mode(config.audit.into());
    if let Some(path) = &config.audit_file {
        builder = builder.audit_copy(Arc::new(FileSink::open(path)?));
    }
    if let Some(retention) = config.audit_retention {
        builder = builder.audit_retention(retention);
    }
    let registry = builder.open().await?;
    let renewing = tokio::spawn(rekey::keep_up(registry.clone(), keys, rekey::is_shared(&url)));
    let admin = if registry.is_sealed() {
        None
    } else {
        registry.bootstrap(&config.admin_email, config.secrets.admin_password.clone()).await?
    };
    let Config { max_in_flight, max_queue, queue_timeout, .. } = config;
    let propagate = Some(telemetry::traceparent as _);
    let settings = GatewaySettings { max_in_flight, max_queue, queue_timeout, propagate, gemini };
    let app = App::new(registry.clone(), Gateway::new(registry.clone(), settings)?)?
        .with_body_timeout(config.body_timeout);
    let address = listener.address().map_err(Error::internal)?;
    announce(&welcome(&format!("http://{address}"), &data_dir, admin.as_ref()));
    tracing::info!(%address, "listening");
    serve_on_cores(listener, &app, stop).await?;
    renewing.abort();
    registry.finish_audit(FLUSH).await?;
    tracing::info!("stopped");
    Ok(())
}

fn connection_limits(config: &Config) -> ConnectionLimits {
    let descriptors = descriptors::raise_limit();
    ConnectionLimits {
        max_connections: descriptors::fit(config.max_connections, config.max_in_flight, descriptors),
        header_timeout: config.header_timeout,
        keep_alive: config.keep_alive,
        stall_timeout: config.stall_timeout,
    }
}

/// The database to use.
pub(crate) fn database_url(config: &Config, data_dir: &Path) -> String {
    match &config.database_url {
        Some(url) => url.clone(),
        None => format!("sqlite://{}", data_dir.join("mcpctl.db").display()),
    }
}

/// The folder of the data, which is made when it is not there.
pub(crate) fn data_dir(config: &Config) -> Result<PathBuf> {
    let folder = match &config.data_dir {
        Some(folder) => folder.clone(),
        None => ProjectDirs::from("", "", "mcpctl")
            .map(|dirs| dirs.data_dir().to_owned())
            .ok_or_else(|| Error::invalid("there is no home folder to keep data in: set --data-dir"))?,
    };
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(&folder).map_err(|cause| {
        Error::invalid(format!("cannot make the data folder {}: {cause}", folder.display()))
    })?;
    Ok(folder)
}

/// What a person should read. The only place where a made-up password is ever shown.
fn welcome(url: &str, data_dir: &Path, admin: Option<&NewAdmin>) -> String {
    let mut text = format!("mcpctl-server listens on {url} (data in {})\n", data_dir.display());
    let Some(admin) = admin else { return text };
    let Some(password) = &admin.generated else {
        // Whoever set the password has a script that knows what comes next.
        text.push_str(&format!(
            "The first user is {}, with the password from MCPCTL_ADMIN_PASSWORD\n",
            admin.email
        ));
        return text;
    };
    text.push_str(&format!(
        "\nThe first user is {} with the password\n\n    {}\n\nIt is not shown again.\n",
        admin.email,
        password.expose()
    ));
    text.push_str(&format!(
        "\nNext, in another terminal:\n\
         \n    mcpctl --daemon-url {url} login --email {}\n\
         \x20   mcpctl create secret openai --data token=YOUR_KEY\n\
         \x20   mcpctl create llm gpt --type openai --model gpt-4o-mini --api-key-ref openai/token\n\
         \x20   mcpctl chat gpt \"Say hello\"\n\
         \nAny OpenAI client works too, with the base URL {url}/v1 and your token as its API key.\n",
        admin.email
    ));
    if std::io::stdout().is_terminal() {
        text.push('\n');
    }
    text
}
