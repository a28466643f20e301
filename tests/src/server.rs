//! The real server, as a process of its own.

use std::{
    env, fs,
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    api::Api,
    canary::Canary,
    postgres::Postgres,
    wait::{SOON, eventually, eventually_within},
};

/// The admin's e-mail address.
pub const ADMIN: &str = "admin@example.com";

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Where the database is; a SQLite file in the data folder when empty.
    pub database_url: Option<String>,
    /// Arguments besides the usual ones.
    pub args: Vec<String>,
    /// Environment variables besides the usual ones.
    pub env: Vec<(String, String)>,
    /// A program and its arguments that the server is started through; it must become the server, by `exec`.
    pub through: Vec<String>,
}

/// A running server with its own data folder, until it is dropped.
///
/// When it is dropped, everything it gave out is searched for secrets, and a test that leaked one fails.
#[derive(Debug)]
pub struct Server {
    process: Process,
    options: ServerOptions,
    address: SocketAddr,
    /// What must not show, and what was seen.
    pub canary: Canary,
    admin_password: String,
    folder: TempDir,
}

/// A child process with what it printed, killed with its whole group when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Server {
    /// Starts a server on a new SQLite database and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(ServerOptions::default()).await
    }

    /// Starts a server and waits until it is ready.
    pub async fn start_with(options: ServerOptions) -> Self {
        let server = Self::launch(options, TempDir::new().unwrap());
        server.ready().await;
        server
    }

    /// Starts a server in `folder` and does not wait for it.
    pub fn launch(options: ServerOptions, folder: TempDir) -> Self {
        let canary = Canary::default();
        let admin_password = unique("admin-password");
        canary.keep_secret("the admin's password", &admin_password);
        let address = free_address();
        let process = spawn(&options, address, folder.path(), &admin_password);
        Self { process, options, address, canary, admin_password, folder }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The folder with the data folder and the log in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The password of [`ADMIN`].
    pub fn admin_password(&self) -> &str {
        &self.admin_password
    }

    /// A client without a token.
    pub fn client(&self) -> Api {
        Api::new(self.address, self.canary.clone())
    }

    /// A client with the admin's token.
    pub async fn login_admin(&self) -> Api {
        self.client().login(ADMIN, &self.admin_password).await
    }

    /// Waits until `/readyz` says yes; fails with the log when the process ends first.
    pub async fn ready(&self) {
        let client = self.client();
        eventually_within(Duration::from_secs(30), "the server is ready", async || {
            assert!(self.process.is_running(), "the server ended while starting:\n{}", self.log());
            let reply = client.try_get("/readyz").await?;
            (reply.status == 200).then_some(())
        })
        .await;
    }

    /// Ends the process with SIGKILL, as a power cut would.
    pub fn kill9(&mut self) {
        self.process.signal("KILL");
        self.process.wait(SOON);
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// How much memory it has, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many files, sockets included, it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Asks the process to end, and does not wait.
    pub fn sigterm(&self) {
        self.process.signal("TERM");
    }

    /// How the process ended; fails when it is still there after [`SOON`].
    pub fn exit_status(&mut self) -> ExitStatus {
        self.process.wait(SOON)
    }

    /// Starts it again on the same data and port, and waits until it is ready. Says how long that took.
    pub async fn restart(&mut self) -> Duration {
        let began = Instant::now();
        self.relaunch();
        self.ready().await;
        began.elapsed()
    }

    /// Starts it again on the same data and port, with whatever options there are now, and does not wait.
    pub fn relaunch(&mut self) {
        self.process.kill();
        self.process = spawn(&self.options, self.address, self.folder.path(), &self.admin_password);
    }

    /// The options for the next start.
    pub fn options(&mut self) -> &mut ServerOptions {
        &mut self.options
    }

    /// Whether the process is there.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Everything it printed since its first start.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap()).into_owned()
    }

    /// Waits until it has printed `text`.
    pub async fn logged(&self, text: &str) {
        let probe = async || self.log().contains(text).then_some(());
        eventually(&format!("{text:?} in the log"), probe).await;
    }

    /// The bytes of the database and of its side files; nothing for a database elsewhere.
    pub fn database_bytes(&self) -> Vec<u8> {
        self.data_files()
            .iter()
            .filter(|path| is_database(path))
            .flat_map(|path| fs::read(path).unwrap())
            .collect()
    }

    /// The files in the data folder that are no database: the key file.
    pub fn key_files(&self) -> Vec<PathBuf> {
        let key = |path: &PathBuf| !is_database(path) && fs::metadata(path).is_ok_and(|file| file.len() > 0);
        self.data_files().into_iter().filter(key).collect()
    }

    /// All files in the data folder.
    pub fn data_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.data_dir()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    /// Looks for secrets in every row of a PostgreSQL database.
    pub fn check_canary_in_postgres(&self, postgres: &Postgres, url: &str) {
        for path in self.key_files() {
            self.canary.keep_key_file_secret(&path);
        }
        let database = url.rsplit('/').next().unwrap();
        let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
        let tables = postgres.sql(database, tables);
        assert!(tables.lines().count() > 2, "no tables in {database}: {tables}");
        for table in tables.lines() {
            let rows = postgres.sql(database, &format!("SELECT row_to_json(t) FROM \"{table}\" t"));
            self.canary.check([(format!("table {table}").as_str(), rows.as_bytes())]);
        }
    }

    /// Looks for secrets in everything that it gave out, and in what it keeps.
    pub fn check_canary(&self) {
        for path in self.key_files() {
            self.canary.keep_key_file_secret(&path);
        }
        let (log, database) = (self.log(), self.database_bytes());
        self.canary.check([("the log", log.as_bytes()), ("the database's files", database.as_slice())]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        if thread::panicking() {
            // What the server said last is what a reader of the failure needs next.
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the end of the server's log");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        } else {
            self.check_canary();
        }
    }
}

impl Process {
    /// Starts `command` in a process group of its own.
    pub fn spawn(command: &mut Command) -> Self {
        let child = command.process_group(0).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, ended: None }
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        // `kill -0` would find a zombie: read the state instead.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// Sends the group a signal.
    pub fn signal(&self, name: &str) {
        let target = format!("-{}", self.child.id());
        let sent = Command::new("kill").args(["-s", name, "--", &target]).stderr(Stdio::null()).status();
        assert!(sent.is_ok(), "the kill command is missing");
    }

    /// Waits for the end; fails after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended {
                return status;
            }
            self.ended = self.child.try_wait().unwrap();
            assert!(
                self.ended.is_some() || Instant::now() < deadline,
                "the process has not ended in {limit:?}"
            );
            if self.ended.is_none() {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Ends it, if it has not ended.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            self.signal("KILL");
            self.ended = self.child.wait().ok().or(Some(ExitStatus::from_raw(9)));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Text that occurs nowhere else: `what-`, the process and a count, and some length.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{:x}-{count:04}-canary", std::process::id())
}

/// A binary of this workspace, beside the tests.
///
/// Fails when it is missing, or older than a source it was built from.
pub fn binary(name: &str) -> PathBuf {
    let this = env::current_exe().unwrap();
    let folder = this.parent().expect("a program is in a folder");
    // Tests are in target/<profile>/deps, programs one above.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap() } else { folder };
    let path = folder.join(name);
    let built = fs::metadata(&path).and_then(|file| file.modified()).unwrap_or_else(|error| {
        panic!("{}: {error}; build it first: cargo build --workspace --bins", path.display())
    });
    let sources = fs::read_to_string(folder.join(format!("{name}.d"))).unwrap_or_default();
    for source in sources.split_once(": ").map(|(_, list)| list).unwrap_or_default().split_whitespace() {
        let changed = fs::metadata(source).and_then(|file| file.modified());
        assert!(
            !changed.is_ok_and(|changed| changed > built),
            "{} is older than {source}; build it first: cargo build --workspace --bins",
            path.display()
        );
    }
    path
}

/// A port of loopback that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn spawn(options: &ServerOptions, address: SocketAddr, folder: &Path, password: &str) -> Process {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = match options.through.split_first() {
        Some((program, args)) => {
            let mut command = Command::new(program);
            command.args(args).arg(binary("mcpctl-server"));
            command
        }
        None => Command::new(binary("mcpctl-server")),
    };
    command.args(["--listen", &address.to_string(), "--data-dir"]).arg(folder.join("data"));
    if let Some(url) = &options.database_url {
        command.args(["--database-url", url]);
    }
    command
        .args(&options.args)
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", folder)
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
        .env("MCPCTL_ADMIN_EMAIL", ADMIN)
        .env("MCPCTL_ADMIN_PASSWORD", password)
        .envs(options.env.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    Process::spawn(&mut command)
}

fn is_database(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [".db", "-wal", "-shm", ".lock", ".sqlite", ".sqlite3", "-journal"].iter().any(|end| name.ends_with(end))
}
