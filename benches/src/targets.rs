//! What is measured: mcpctl, nginx, and the stub itself for reference.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Result, answers::Shape, http, machine, process::Family};

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
    /// What a request's path is for a shape.
    path: fn(Shape) -> String,
    child: Child,
    _folder: Option<TempDir>,
}

impl Target {
    /// The path of a request for an answer of this shape.
    pub fn path(&self, shape: Shape) -> String {
        (self.path)(shape)
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

/// The path that the stub knows.
fn direct_path(shape: Shape) -> String {
    format!("/{}/v1/chat/completions", shape.name())
}

/// The stub provider, in a process of its own: `program stub`.
///
/// # Errors
///
/// When it does not start.
pub fn stub(program: &Path) -> Result<Target> {
    let mut child = Command::new(program).arg("stub").stdout(Stdio::piped()).spawn()?;
    let address = announced(&mut child)?;
    let family = Family::of(child.id())?;
    Ok(Target {
        name: "stub alone",
        address,
        token: "none".to_owned(),
        family,
        path: direct_path,
        child,
        _folder: None,
    })
}

/// nginx as a plain reverse proxy in front of the stub, with as many workers as there are cores.
///
/// # Errors
///
/// When there is no nginx and it cannot be installed, or it does not start.
pub fn nginx(stub: SocketAddr) -> Result<Target> {
    let program = find_nginx()?;
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let config = folder.path().join("nginx.conf");
    fs::write(&config, nginx_config(folder.path(), address, stub))?;
    let child = Command::new(program)
        .args(["-e", "stderr", "-p"])
        .arg(folder.path())
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .spawn()?;
    wait_for(address)?;
    // The workers are forked after the port is open.
    std::thread::sleep(Duration::from_millis(300));
    let family = Family::of(child.id())?;
    Ok(Target {
        name: "nginx",
        address,
        token: "none".to_owned(),
        family,
        path: direct_path,
        child,
        _folder: Some(folder),
    })
}

fn nginx_config(folder: &Path, address: SocketAddr, stub: SocketAddr) -> String {
    let (folder, workers) = (folder.display(), machine::cores());
    // A body in a buffer that is too small would go through a file, which is not what is compared.
    format!(
        "daemon off;\n\
         worker_processes {workers};\n\
         pid {folder}/nginx.pid;\n\
         error_log stderr crit;\n\
         events {{ worker_connections 16384; }}\n\
         http {{\n\
           access_log off;\n\
           client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
           client_body_buffer_size 128k; client_max_body_size 16m;\n\
           keepalive_requests 1000000000;\n\
           upstream stub {{ server {stub}; keepalive 512; keepalive_requests 1000000000; }}\n\
           server {{\n\
             listen {address} backlog=4096;\n\
             location / {{\n\
               proxy_pass http://stub;\n\
               proxy_http_version 1.1;\n\
               proxy_set_header Connection \"\";\n\
               proxy_buffering off;\n\
             }}\n\
           }}\n\
         }}\n"
    )
}

fn find_nginx() -> Result<PathBuf> {
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

/// mcpctl-server on an empty SQLite database, with one Llm per shape, called by a user whose role allows just that.
///
/// # Errors
///
/// When it does not start, or refuses what it is told.
pub fn mcpctl(program: &Path, stub: SocketAddr) -> Result<Target> {
    let folder = tempfile::tempdir()?;
    let mut child = Command::new(program)
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .env("MCPCTL_ADMIN_PASSWORD", PASSWORD)
        .env_remove("MCPCTL_DATABASE_URL")
        .env_remove("MCPCTL_MASTER_KEY")
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .spawn()?;
    let address = announced(&mut child)?;
    let mut target = Target {
        name: "mcpctl",
        address,
        token: String::new(),
        family: Family::of(child.id())?,
        path: |_| "/v1/chat/completions".to_owned(),
        child,
        _folder: Some(folder),
    };
    target.token = set_up(address, stub)?;
    Ok(target)
}

const PASSWORD: &str = "a password for measuring";
const USER: &str = "bench@localhost";

fn set_up(server: SocketAddr, stub: SocketAddr) -> Result<String> {
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
    for shape in Shape::ALL {
        let llm = json!({
            "name": shape.name(), "type": "openai", "model": "stub-1",
            "url": format!("http://{stub}/{}", shape.name()),
            "apiKeyRef": {"name": "stub", "key": "token"},
        });
        call("/api/v1/llms", &admin, llm)?;
    }
    call("/api/v1/users", &admin, json!({"name": USER, "password": PASSWORD}))?;
    let role = json!({
        "name": "bench", "subjects": [{"kind": "User", "name": USER}],
        "roleBindings": [{"role": "run", "resource": "llms"}],
    });
    call("/api/v1/rbac", &admin, role)?;
    login(USER)
}

/// The address in the first line that a child prints. The rest of its output is read by nobody.
fn announced(child: &mut Child) -> Result<SocketAddr> {
    let output = child.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(output);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    // Kept open: a child that prints more must not fail.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    let word = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
    Ok(word.ok_or_else(|| format!("it did not say where it listens: {line}"))?.parse()?)
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
