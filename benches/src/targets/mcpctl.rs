//! mcpctl-server on an SQLite database, with one Llm per shape and way, called by a user whose role allows just that.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{Stub, Target, Upstream, announced};
use crate::{Result, answers::Shape, http, process::Family};

/// When an answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// As the server does when it is told nothing: before its audit event is kept.
    Buffered,
    /// After its audit event is kept.
    Strict,
}

const PASSWORD: &str = "a password for measuring";
const USER: &str = "bench@localhost";

/// A server on an empty database, ready to be called.
///
/// # Errors
///
/// When it does not start, or refuses what it is told.
pub fn mcpctl(program: &Path, stub: &Stub, audit: Audit) -> Result<Target> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program);
    if audit == Audit::Strict {
        command.args(["--audit", "strict"]);
    }
    let mut target = start(command, folder.path(), &stub.certificate)?;
    target.token = set_up(target.address, stub)?;
    target._folder = Some(folder);
    if audit == Audit::Strict {
        target.name = "mcpctl, audit strict";
    }
    Ok(target)
}

/// A server on what is in `folder`, which trusts `certificate` alone. `command` may have arguments already.
///
/// # Errors
///
/// When it does not start.
pub fn start(mut command: Command, folder: &Path, certificate: &Path) -> Result<Target> {
    let mut child = command
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder)
        .env("MCPCTL_ADMIN_PASSWORD", PASSWORD)
        .env("SSL_CERT_FILE", certificate)
        .env_remove("SSL_CERT_DIR")
        .env_remove("MCPCTL_DATABASE_URL")
        .env_remove("MCPCTL_MASTER_KEY")
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .spawn()?;
    let [address] = announced(&mut child, ["http://"])?;
    let family = Family::of(child.id())?;
    let path = |_, _| "/v1/chat/completions".to_owned();
    Ok(Target { name: "mcpctl", address, token: String::new(), family, path, child, _folder: None })
}

/// The modes of audit that this server knows.
///
/// # Errors
///
/// When it cannot be started.
pub fn modes(program: &Path) -> Result<Vec<Audit>> {
    let help = Command::new(program).arg("--help").output()?;
    let has_modes = String::from_utf8_lossy(&help.stdout).contains("--audit ");
    Ok(if has_modes { vec![Audit::Buffered, Audit::Strict] } else { vec![Audit::Buffered] })
}

/// Makes the Llms, the user and the role on a fresh server; says the user's token.
///
/// # Errors
///
/// When it refuses something.
pub fn set_up(server: SocketAddr, stub: &Stub) -> Result<String> {
    let call = |path: &str, token: &str, body: Value| match http::call(server, "POST", path, token, &body)? {
        (200 | 201, answer) => Ok(answer),
        (status, answer) => Err(crate::Fault::from(format!("POST {path}: {status}: {answer}"))),
    };
    let login = |email: &str| {
        let answer = call("/api/v1/auth/login", "", json!({"email": email, "password": PASSWORD}))?;
        answer["token"].as_str().map(str::to_owned).ok_or_else(|| crate::Fault::from("no token"))
    };
    let admin = login("admin@localhost")?;
    call("/api/v1/secrets", &admin, json!({"name": "stub", "data": {"token": "sk-not-a-secret"}}))?;
    for upstream in Upstream::ALL {
        let origin = match upstream {
            Upstream::Plain => format!("http://{}", stub.addresses.plain),
            Upstream::Tls => format!("https://localhost:{}", stub.addresses.tls.port()),
            Upstream::Http2 => format!("https://localhost:{}", stub.addresses.http2.port()),
        };
        for shape in Shape::ALL {
            let llm = json!({
                "name": upstream.llm(shape), "type": shape.llm_type(), "model": "stub-1",
                "url": format!("{origin}/{}", shape.name()),
                "apiKeyRef": {"name": "stub", "key": "token"},
            });
            call("/api/v1/llms", &admin, llm)?;
        }
    }
    call("/api/v1/users", &admin, json!({"name": USER, "password": PASSWORD}))?;
    let role = json!({
        "name": "bench", "subjects": [{"kind": "User", "name": USER}],
        "roleBindings": [{"role": "run", "resource": "llms"}],
    });
    call("/api/v1/rbac", &admin, role)?;
    login(USER)
}
