//! What is measured: mcpctl, nginx, and the stub itself for reference.

mod mcpctl;
mod nginx;

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub use mcpctl::{Audit, mcpctl, modes, set_up, start as start_mcpctl};
pub use nginx::{AccessLog, nginx, version as nginx_version};

use crate::{Result, answers::Shape, process::Family, stub::Addresses};

/// How a proxy reaches the stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// HTTP/1.1.
    Plain,
    /// HTTP/1.1 in TLS.
    Tls,
    /// HTTP/2 in TLS. nginx speaks HTTP/1.1 to where it sends requests, so it gets that.
    Http2,
}

impl Upstream {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::Http2];

    /// The name of the Llm that answers in a shape.
    pub fn llm(self, shape: Shape) -> String {
        let end = match self {
            Self::Plain => "",
            Self::Tls => "-tls",
            Self::Http2 => "-http2",
        };
        format!("{}{end}", shape.name())
    }
}

/// A running target. It is killed when dropped.
pub struct Target {
    /// Its name in the report.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// The token it wants.
    pub token: String,
    /// Its processes.
    pub family: Family,
    /// What a request's path is.
    path: fn(Shape, Upstream) -> String,
    child: Child,
    _folder: Option<TempDir>,
}

impl Target {
    /// The path of a request for an answer of this shape, fetched in this way.
    pub fn path(&self, shape: Shape, upstream: Upstream) -> String {
        (self.path)(shape, upstream)
    }

    /// The id of its first process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // nginx's workers outlive a master that is killed; SIGTERM it, as any other.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let until = Instant::now() + Duration::from_secs(5);
        while asked.is_ok() && Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The stub provider, in a process of its own.
pub struct Stub {
    /// As a target, without a proxy.
    pub target: Target,
    /// Where it listens.
    pub addresses: Addresses,
    /// The file with the certificate to trust.
    pub certificate: PathBuf,
}

/// Starts the stub: `program stub FILE`.
///
/// # Errors
///
/// When it does not start.
pub fn stub(program: &Path) -> Result<Stub> {
    let folder = tempfile::tempdir()?;
    let certificate = folder.path().join("authority.pem");
    let mut child = Command::new(program).arg("stub").arg(&certificate).stdout(Stdio::piped()).spawn()?;
    let [plain, tls, http2] = announced(&mut child, ["http://", "https://", "h2://"])?;
    let family = Family::of(child.id())?;
    let target = Target {
        name: "stub alone",
        address: plain,
        token: "none".to_owned(),
        family,
        path: |shape, _| format!("/{}/v1/chat/completions", shape.name()),
        child,
        _folder: Some(folder),
    };
    Ok(Stub { target, addresses: Addresses { plain, tls, http2 }, certificate })
}

/// The addresses behind these words in the first line that a child prints. The rest of its output is read by nobody.
fn announced<const N: usize>(child: &mut Child, schemes: [&str; N]) -> Result<[SocketAddr; N]> {
    let output = child.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(output);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    // Kept open: a child that prints more must not fail.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    let found = schemes.map(|scheme| {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(scheme))?;
        word.parse::<SocketAddr>().ok()
    });
    let found: Option<Vec<SocketAddr>> = found.into_iter().collect();
    let found = found.and_then(|found| found.try_into().ok());
    found.ok_or_else(|| format!("it did not say where it listens: {line}").into())
}
