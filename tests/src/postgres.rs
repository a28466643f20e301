//! A private PostgreSQL cluster for tests, in a temporary folder, gone with the test process.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

/// Set to `1`, tests that need PostgreSQL are left out where it is not installed.
pub const NO_POSTGRES: &str = "MCPCTL_TESTS_NO_POSTGRES";

/// A PostgreSQL cluster on a free loopback port, with durability as in production.
///
/// It stops, and its folder is removed, when this is dropped or when the test process ends, however it does.
pub struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    server: Mutex<Option<Child>>,
    /// Waits for the end of its standard input, and then cleans up.
    caretaker: Option<Child>,
    databases: AtomicU32,
}

impl Postgres {
    /// Starts a cluster; `None` when PostgreSQL is missing and that was declared to be fine.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is missing, or does not start.
    pub fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            let missing = "PostgreSQL is not installed (no `initdb` in PATH or /usr/lib/postgresql/*/bin)";
            assert!(
                std::env::var(NO_POSTGRES).is_ok_and(|value| value == "1"),
                "{missing}; install it (Debian: `apt-get install postgresql`), or set {NO_POSTGRES}=1 to test without it"
            );
            eprintln!("NOT TESTED: {missing}, and {NO_POSTGRES}=1");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("pg-").tempdir().expect("a temporary folder").keep();
        if is_root() {
            // The server refuses to run as root.
            let owner = run(Command::new("id").args(["-u", "postgres"]));
            let owner = owner.trim().parse().expect("the id of the user postgres");
            std::os::unix::fs::chown(&folder, Some(owner), None).expect("chown of the cluster's folder");
        }
        let caretaker = Some(caretaker(&folder));
        let databases = AtomicU32::new(0);
        let postgres =
            Self { binaries, folder, port: free_port(), server: Mutex::default(), caretaker, databases };
        postgres.initdb();
        postgres.start_again();
        Some(postgres)
    }

    /// The cluster that ordinary tests of this process share.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a new, empty database, and gives its URL.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// Runs SQL in a database, and gives what it prints.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let url = self.url(database);
        run(Command::new(self.binaries.join("psql")).args(["-X", "-q", "-A", "-t", "-d", &url, "-c", sql]))
    }

    /// Begins to run SQL in a database, in a process of its own.
    pub fn start_sql(&self, database: &str, sql: &str) -> Child {
        let mut command = Command::new(self.binaries.join("psql"));
        command.args(["-X", "-q", "-d", &self.url(database), "-c", sql]).stdin(Stdio::null());
        command.spawn().expect("psql")
    }

    /// Stops the server as an operator would: open transactions are rolled back.
    pub fn stop(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            run(Command::new("kill").args(["-INT", &server.id().to_string()]));
            server.wait().expect("the server's end");
        }
    }

    /// Kills every process of the server without warning, as a power cut does.
    pub fn kill9(&self) {
        // The first process alone would leave the others to serve their clients for a moment.
        self.signal_all("-STOP");
        self.signal_all("-KILL");
        if let Some(mut server) = self.server.lock().unwrap().take() {
            server.wait().expect("the server's end");
        }
    }

    /// Stops every process of the server in its tracks, as a machine does that hangs; [`Self::thaw`] goes on.
    pub fn freeze(&self) {
        self.signal_all("-STOP");
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal_all("-CONT");
    }

    /// Starts the server, on the same port and data, and waits until it answers.
    pub fn start_again(&self) {
        let began = Instant::now();
        let mut server = self.server.lock().unwrap();
        while began.elapsed() < Duration::from_secs(60) {
            // After a kill, what is left of the old server may keep the data for a moment: then try again.
            let mut child = self.spawn();
            while child.try_wait().expect("the server's state").is_none() {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "PostgreSQL is not ready:\n{}",
                    self.log()
                );
                if self.is_ready() {
                    *server = Some(child);
                    return;
                }
                sleep(Duration::from_millis(20));
            }
            sleep(Duration::from_millis(100));
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    fn initdb(&self) {
        let data = self.folder.join("data");
        let initdb = |locale: &[&str]| {
            let mut command = self.as_owner("initdb");
            command.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
            command.args(locale).arg("-D").arg(&data).output().expect("initdb")
        };
        // A locale that does not compare bytewise shows who relies on one that does.
        if !initdb(&["--locale-provider=icu", "--icu-locale=en-US"]).status.success() {
            let output = initdb(&[]);
            assert!(output.status.success(), "initdb failed: {}", text(&output));
        }
    }

    fn spawn(&self) -> Child {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let option = |name: &str, value: &str| ["-c".to_owned(), format!("{name}={value}")];
        self.as_owner("postgres")
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(option("port", &self.port.to_string()))
            .args(option("listen_addresses", "127.0.0.1"))
            .args(option("unix_socket_directories", &self.folder.to_string_lossy()))
            .args(option("max_connections", "200"))
            // Ctrl-C is for the tests; the caretaker sees to the server.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the server starts")
    }

    fn is_ready(&self) -> bool {
        let port = self.port.to_string();
        let mut command = Command::new(self.binaries.join("pg_isready"));
        command.args(["-q", "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", "postgres"]);
        command.status().expect("pg_isready").success()
    }

    /// A command of PostgreSQL's, as a user who may run it.
    fn as_owner(&self, binary: &str) -> Command {
        let binary = self.binaries.join(binary);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(binary);
            command
        } else {
            Command::new(binary)
        };
        command.current_dir(&self.folder);
        command
    }

    fn signal_all(&self, signal: &str) {
        let server = self.server.lock().unwrap();
        let Some(server) = server.as_ref() else { return };
        let id = server.id().to_string();
        let children = Command::new("pgrep").args(["-P", &id]).output().expect("pgrep");
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        // The first process first: stopped, it starts no others. One that has just ended is no fault.
        for process in std::iter::once(id.as_str()).chain(children.split_whitespace()) {
            let _ = Command::new("kill").args([signal, process]).stderr(Stdio::null()).status();
        }
    }

    fn log(&self) -> String {
        let mut text = String::new();
        let log = fs::File::open(self.folder.join("log"));
        let _ = log.and_then(|mut log| log.read_to_string(&mut text));
        text
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        if let Some(mut server) = self.server.lock().unwrap().take() {
            // The immediate shutdown: nobody needs the data any more.
            let _ = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
            let _ = server.wait();
        }
        if let Some(mut caretaker) = self.caretaker.take() {
            drop(caretaker.stdin.take());
            let _ = caretaker.wait();
        }
    }
}

/// A process that stops the server in `folder` and removes the folder when its standard input ends. The system
/// closes that input when the test process ends, by whatever signal.
fn caretaker(folder: &Path) -> Child {
    const SCRIPT: &str = r#"
        cat >/dev/null
        if [ -r "$0/data/postmaster.pid" ]; then
            read -r pid <"$0/data/postmaster.pid"
            kill -QUIT "$pid" 2>/dev/null
            for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
        fi
        # Processes that have not noticed yet may still write.
        for _ in 1 2 3 4 5; do rm -rf "$0" 2>/dev/null && break; sleep 0.5; done
    "#;
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(SCRIPT)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.process_group(0).spawn().expect("a shell")
}

/// The folder with PostgreSQL's binaries: in PATH, or the newest of Debian's.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Through links, to where the other programs are too.
    let in_path = std::env::split_paths(&path).find_map(|folder| folder.join("initdb").canonicalize().ok());
    in_path.and_then(|initdb| Some(initdb.parent()?.to_owned())).or_else(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
        let version = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse().unwrap_or(0_u32);
        let folders = versions.map(|entry| (version(&entry), entry.path().join("bin")));
        folders.filter(|(_, folder)| folder.join("initdb").is_file()).max().map(|(_, folder)| folder)
    })
}

fn is_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| run(Command::new("id").arg("-u")).trim() == "0")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its number").port()
}

/// What the command prints, or a panic with everything it said.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{}\n{out}{err}", output.status)
}
