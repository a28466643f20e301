//! nginx as a plain reverse proxy.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{Stub, Target, Upstream};
use crate::{Result, answers::Shape, machine, process::Family};

/// Whether nginx writes a line per request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// It does not: as cheap as it gets, and what the limits are held against.
    Off,
    /// It does, to a file, in its usual format and with a buffer: what mcpctl's audit trail is to be compared with.
    On,
}

/// nginx in front of the stub, with as many workers as there are cores.
///
/// # Errors
///
/// When there is no nginx and it cannot be installed, or it does not start.
pub fn nginx(stub: &Stub, log: AccessLog) -> Result<Target> {
    let program = find()?;
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let file = folder.path().join("nginx.conf");
    fs::write(&file, config(folder.path(), address, stub, log))?;
    let child = Command::new(program)
        .args(["-e", "stderr", "-p"])
        .arg(folder.path())
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .spawn()?;
    wait_for(address)?;
    // The workers are forked after the port is open.
    std::thread::sleep(Duration::from_millis(300));
    let family = Family::of(child.id())?;
    Ok(Target {
        name: match log {
            AccessLog::Off => "nginx",
            AccessLog::On => "nginx, access log on",
        },
        address,
        token: "none".to_owned(),
        family,
        path,
        child,
        _folder: Some(folder),
    })
}

fn path(shape: Shape, upstream: Upstream) -> String {
    let prefix = if upstream == Upstream::Plain { "" } else { "/tls" };
    format!("{prefix}/{}/v1/chat/completions", shape.name())
}

fn config(folder: &Path, address: SocketAddr, stub: &Stub, log: AccessLog) -> String {
    let (workers, plain, tls) = (machine::cores(), stub.addresses.plain, stub.addresses.tls);
    let (folder, certificate) = (folder.display(), stub.certificate.display());
    let log = match log {
        AccessLog::Off => "off".to_owned(),
        AccessLog::On => format!("{folder}/access.log combined buffer=64k flush=1s"),
    };
    let onward = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;";
    // A body in a buffer that is too small would go through a file, which is not what is compared.
    format!(
        "daemon off;\n\
         worker_processes {workers};\n\
         pid {folder}/nginx.pid;\n\
         error_log stderr crit;\n\
         events {{ worker_connections 16384; }}\n\
         http {{\n\
           access_log {log};\n\
           client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
           client_body_buffer_size 128k; client_max_body_size 16m;\n\
           keepalive_requests 1000000000;\n\
           upstream stub {{ server {plain}; keepalive 512; keepalive_requests 1000000000; }}\n\
           upstream stub_tls {{ server {tls}; keepalive 512; keepalive_requests 1000000000; }}\n\
           server {{\n\
             listen {address} backlog=8192;\n\
             location / {{ proxy_pass http://stub; {onward} }}\n\
             location /tls/ {{\n\
               proxy_pass https://stub_tls/; {onward}\n\
               proxy_ssl_protocols TLSv1.2 TLSv1.3; proxy_ssl_server_name on; proxy_ssl_name localhost;\n\
               proxy_ssl_verify on; proxy_ssl_trusted_certificate {certificate};\n\
             }}\n\
           }}\n\
         }}\n"
    )
}

/// Which nginx it is.
pub fn version() -> String {
    // It says so on stderr.
    let said = find().ok().and_then(|program| Command::new(program).arg("-v").output().ok());
    let said = said.map(|said| String::from_utf8_lossy(&said.stderr).into_owned()).unwrap_or_default();
    said.trim().rsplit(": ").next().unwrap_or_default().to_owned()
}

fn find() -> Result<PathBuf> {
    let known = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/bin/nginx", "/usr/bin/nginx"];
    let find = || known.iter().map(PathBuf::from).find(|path| path.exists());
    if let Some(found) = find() {
        return Ok(found);
    }
    eprintln!("nginx is missing; installing it with apt-get");
    let installed = Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends", "nginx-light"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        // The service that the package brings is not wanted.
        .env("RUNLEVEL", "1")
        .stdout(Stdio::null())
        .status();
    match find() {
        Some(found) if installed.is_ok() => Ok(found),
        _ => Err("nginx is what is compared with: install it (Debian: apt-get install nginx)".into()),
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn wait_for(address: SocketAddr) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > until {
            return Err(format!("nothing listens on {address}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
