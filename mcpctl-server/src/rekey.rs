//! Another master key: `mcpctl-server rekey`, and what a running server does of it.
//!
//! The key file says what is wanted: its first key writes, the others still read. Whoever has the database, this
//! command or the server that runs, encrypts everything anew under the first, and then leaves it alone in the file.

use std::{
    io::{IsTerminal as _, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use mcpctl_core::{
    Error, ErrorKind, Registry, Result, registry::Rekeyed, resource::Actor, secret::Keyring, store::SqlStore,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Config,
    master_key::{self, Keys},
    start::{data_dir, database_url},
};

/// How long the server that runs may take.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(100);

/// The command: a new key in the key file, and everything under it.
///
/// # Errors
///
/// When a key or the database cannot be used, or when some value could not be encrypted anew.
pub async fn rekey(config: &Config) -> Result<()> {
    let data_dir = data_dir(config)?;
    let url = database_url(config, &data_dir);
    let mut keys = master_key::load(&config.secrets, &data_dir)?;
    match &keys.file {
        // One that did not get to its end is taken up again.
        Some(file) if keys.ring.read_ids().next().is_none() => {
            keys.ring = Keyring::add_key(file)?;
            say(&format!("The key file {} has a new key, {}", file.display(), keys.ring.write_id()));
        }
        Some(_) => say(&format!("Going on with the key {}", keys.ring.write_id())),
        None if keys.ring.read_ids().next().is_none() => {
            return Err(Error::invalid(
                "MCPCTL_MASTER_KEY is the only key: set the new one there, and the old one in MCPCTL_OLD_MASTER_KEYS",
            ));
        }
        None => {}
    }
    match SqlStore::open(&url).await {
        Ok(store) => {
            let registry = Registry::builder(Arc::new(store)).keyring(keys.ring.clone()).open().await?;
            let done = run(&registry, progress).await?;
            registry.finish_audit(Duration::from_secs(10)).await?;
            finish(&keys, &done, is_shared(&url))
        }
        Err(error) if error.kind() == ErrorKind::Conflict => by_the_server(&keys, &url, error).await,
        Err(error) => Err(error),
    }
}

/// Whether other servers may be using the database, with keys of their own.
pub(crate) fn is_shared(url: &str) -> bool {
    !url.starts_with("sqlite://")
}

async fn run(registry: &Registry, progress: impl FnMut(usize, usize)) -> Result<Rekeyed> {
    let actor = Actor { user: Some("rekey".into()), ..Actor::default() };
    registry.rekey(actor, progress).await
}

/// Says how it ended, and forgets the old keys if nobody needs them.
fn finish(keys: &Keys, done: &Rekeyed, is_shared: bool) -> Result<()> {
    if !done.left.is_empty() {
        let left: Vec<String> =
            done.left.iter().map(|(key, values)| format!("{values} under {key}")).collect();
        let message =
            format!("some values could not be encrypted anew ({}): the old keys stay", left.join(", "));
        return Err(Error::new(ErrorKind::SecretUnavailable, message));
    }
    say(&format!("{} values encrypted anew; all are under {} now", done.renewed, done.key));
    match &keys.file {
        Some(file) if !is_shared => {
            keys.ring.forget_others(file)?;
            say(
                "The old key is removed from the key file: no value needs it. Backups of the database still do.",
            );
        }
        Some(file) => say(&format!(
            "Once every server on this database has the new key, remove all but the first line of {}",
            file.display()
        )),
        None => say("MCPCTL_OLD_MASTER_KEYS can go, once every server on this database has the new key"),
    }
    Ok(())
}

/// Lets the server that has the database do it, and waits until it has.
async fn by_the_server(keys: &Keys, url: &str, in_use: Error) -> Result<()> {
    let Some(file) = &keys.file else {
        return Err(
            in_use.context("a server runs, and encrypts anew by itself when it is started with the new key")
        );
    };
    let server = SqlStore::holder(url).filter(|id| is_one_of_us(*id));
    let Some(server) = server.and_then(|id| Pid::from_raw(id.try_into().ok()?)) else {
        return Err(in_use.context("send SIGHUP to the server that runs, or stop it and repeat this"));
    };
    kill_process(server, Signal::HUP)
        .map_err(|cause| Error::invalid(format!("telling the server: {cause}")))?;
    say(&format!(
        "The server that runs (process {server}) encrypts everything anew; its log tells how far it is"
    ));
    let waited = tokio::time::Instant::now();
    while waited.elapsed() < PATIENCE {
        if Keyring::load_or_create(file)?.read_ids().next().is_none() {
            say("Done: the old key is removed from the key file. Backups of the database still need it.");
            return Ok(());
        }
        if SqlStore::holder(url).is_none() {
            return Err(Error::invalid("the server has stopped: repeat this to go on"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Error::invalid("the server has not finished yet; its log says why, and repeating this is safe"))
}

/// Whether the process runs the program that this is: a signal means something else to others.
fn is_one_of_us(process: u32) -> bool {
    let program = |process: &str| std::fs::read_link(Path::new("/proc").join(process).join("exe")).ok();
    let name = |path: std::path::PathBuf| {
        let name = path.file_name()?.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
        Some(name)
    };
    program(&process.to_string()).and_then(name) == program("self").and_then(name)
}

/// What a server does behind its requests: encrypts anew when it starts with several keys, and whenever SIGHUP says that
/// the key file has changed.
pub(crate) async fn keep_up(registry: Registry, mut keys: Keys, is_shared: bool) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!("SIGHUP cannot be waited for; a new key counts at the next start");
        return;
    };
    loop {
        if keys.ring.read_ids().next().is_some() {
            match renew(&registry, &keys, is_shared).await {
                Ok(ring) => keys.ring = ring,
                Err(error) => {
                    tracing::error!(error = error.chain(), "stored values are not all under the new key")
                }
            }
        }
        if hangup.recv().await.is_none() {
            return;
        }
        let Some(file) = &keys.file else { continue };
        let loaded = match Keyring::load_or_create(file) {
            Ok(ring) => registry.use_keyring(ring.clone()).await.map(|()| ring),
            Err(error) => Err(error),
        };
        match loaded {
            Ok(ring) => keys.ring = ring,
            Err(error) => tracing::error!(error = error.chain(), "the keys in use stay"),
        }
    }
}

async fn renew(registry: &Registry, keys: &Keys, is_shared: bool) -> Result<Keyring> {
    let mut told = std::time::Instant::now();
    let done = run(registry, |done, all| {
        if told.elapsed() >= Duration::from_secs(1) {
            told = std::time::Instant::now();
            tracing::info!(done, all, "encrypting stored values anew");
        }
    })
    .await?;
    if !done.left.is_empty() {
        return Err(Error::new(ErrorKind::SecretUnavailable, format!("left as they were: {:?}", done.left)));
    }
    tracing::info!(key = done.key, values = done.renewed, "all stored values are under the key that writes");
    match &keys.file {
        Some(file) if !is_shared => {
            let ring = keys.ring.forget_others(file)?;
            registry.use_keyring(ring.clone()).await?;
            Ok(ring)
        }
        _ => Ok(keys.ring.clone()),
    }
}

fn progress(done: usize, all: usize) {
    if std::io::stderr().is_terminal() {
        let end = if done == all { "\n" } else { "" };
        // Whoever started us may not be reading.
        let _ = write!(std::io::stderr(), "\rEncrypting anew: {done} of {all}{end}");
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
