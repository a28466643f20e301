//! The disk is full: changes are refused in bounded time, inference goes on, and it heals when there is room again.

use std::{
    env, fs,
    io::{ErrorKind, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tests::{Api, Provider, Server, server::ADMIN, wait::SOON};

use super::{
    options,
    outage::{Load, changes_work_again, healed_within},
};

/// Set to `1`, tests that need a disk of their own are left out where none can be had.
const NO_MOUNT: &str = "MCPCTL_TESTS_NO_MOUNT";
const MOUNT: &str = "mkdir -p \"$0\" && mount -t tmpfs -o size=12m tmpfs \"$0\" && exec \"$@\"";

/// Whether a process can have a file system of its own here.
fn can_mount() -> bool {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", MOUNT]).arg(folder.path()).arg("true");
    if command.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return true;
    }
    let missing = "a file system for one process (`unshare --map-root-user --mount`) is not to be had";
    assert!(env::var(NO_MOUNT).is_ok_and(|value| value == "1"), "{missing}; {NO_MOUNT}=1 tests without it");
    eprintln!("NOT TESTED: {missing}, and {NO_MOUNT}=1");
    false
}

/// What fills the disk, until it is dropped.
struct Ballast(PathBuf);

impl Ballast {
    /// Takes all the room there is on the server's disk.
    fn fill(server: &Server) -> Self {
        let data = server.data_dir();
        // As the server sees it.
        let root = PathBuf::from(format!("/proc/{}/root", server.pid()));
        let path = root.join(data.strip_prefix("/").unwrap()).join("ballast");
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 16, 1 << 12] {
            loop {
                match file.write_all(&vec![0; size]) {
                    Ok(()) => {}
                    Err(fault) if fault.kind() == ErrorKind::StorageFull => break,
                    Err(fault) => panic!("{}: {fault}", path.display()),
                }
            }
        }
        Self(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes changes until one is refused, as each of them must be from then on; says how long the refusal took.
async fn refused(admin: &Api) -> Duration {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let began = Instant::now();
        let text: String = format!("{began:?}").repeat(20).chars().take(400).collect();
        let reply = admin.patch("/api/v1/llms/gpt", &json!({"description": text})).await;
        if reply.status != 200 {
            assert!(!reply.header("retry-after").is_empty(), "{}", reply.text());
            reply.error(503);
            return began.elapsed();
        }
        assert!(Instant::now() < deadline, "changes are written although the disk is full");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_changes_and_nothing_else() {
    if !can_mount() {
        return;
    }
    let (folder, mut options) = (TempDir::new().unwrap(), options(&["--max-staleness", "2s"]));
    let data = folder.path().join("data").to_string_lossy().into_owned();
    options.through =
        ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, &data].map(str::to_owned).into();
    let (server, provider) = (Server::launch(options, folder), Provider::start().await);
    server.ready().await;
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    let load = Load::start(&server, &admin);
    let ballast = Ballast::fill(&server);
    let mut slowest = refused(&admin).await;
    let full = Instant::now();
    while full.elapsed() < Duration::from_secs(4) {
        slowest = slowest.max(refused(&admin).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(slowest < SOON, "a change was refused after {slowest:?}");
    let login = json!({"email": ADMIN, "password": server.admin_password()});
    let login = server.client().request("POST", "/api/v1/auth/login").json(&login).send().await.unwrap();
    assert!([200, 503].contains(&login.status().as_u16()), "{login:?}");
    drop(ballast);
    let healed = changes_work_again(&admin, Instant::now()).await;
    assert!(healed <= healed_within(), "changes were refused until {healed:?} after there was room");
    let calls = load.finish_unharmed(&admin).await;
    println!(
        "disk full: changes refused within {slowest:?}, healed after {healed:?}; {calls} calls unharmed"
    );
}
