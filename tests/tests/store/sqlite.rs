//! What is particular to SQLite: files, their modes, and who may have them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use mcpctl_core::{
    ErrorKind,
    store::{SqlStore, Store},
};

use super::{create, names};

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[tokio::test]
async fn reopening_finds_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcpctl.db");
    for round in 0..3 {
        let store = SqlStore::open(&url(&path)).await.unwrap();
        assert_eq!(store.revision().await.unwrap(), round);
        create(&store, &format!("llm-{round}")).await;
    }
    let store = SqlStore::open(&url(&path)).await.unwrap();
    assert_eq!(names(&store).await, ["llm-0", "llm-1", "llm-2"]);
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqlStore::open(&url(&folder.path().join("mcpctl.db"))).await.unwrap();
    create(&store, "a").await;
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                entry.metadata().unwrap().permissions().mode() & 0o7777,
            )
        })
        .collect();
    files.sort();
    let names = ["mcpctl.db", "mcpctl.db-shm", "mcpctl.db-wal", "mcpctl.db.lock"];
    assert_eq!(files, names.map(|name| (name.to_owned(), 0o600)));
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcpctl.db");
    let link = folder.path().join("link.db");
    let first = SqlStore::open(&url(&path)).await.unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        let error = SqlStore::open(&url(path)).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("in use by another process"), "{error}");
    }
    create(&first, "a").await;
    drop(first);
    assert_eq!(names(&SqlStore::open(&url(&path)).await.unwrap()).await, ["a"]);
}

#[tokio::test]
async fn urls_that_cannot_be_used_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/mcpctl.db");
    for (url, part) in [
        ("nonsense".to_owned(), "must be sqlite://PATH or postgres://"),
        ("mysql://root:pa55@localhost/x".to_owned(), "must be sqlite://PATH or postgres://"),
        ("sqlite://".to_owned(), "must be sqlite://PATH"),
        (url(&missing), "missing/mcpctl.db` cannot be opened"),
        (url(folder.path()), "cannot be"),
    ] {
        let error = SqlStore::open(&url).await.err().unwrap();
        assert!(
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unavailable),
            "{url}: {}",
            error.chain()
        );
        assert!(error.message().contains(part), "{url}: {}", error.chain());
        assert!(!error.chain().contains("pa55"), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    let text = "this is no database, it is somebody's notes\n".repeat(100);
    fs::write(&path, &text).unwrap();
    assert!(SqlStore::open(&url(&path)).await.is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_missed_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcpctl.db");
    let store = SqlStore::open(&url(&path)).await.unwrap();
    create(&store, "a").await;
    let away = folder.path().join("away.db");
    fs::rename(&path, &away).unwrap();
    for _ in 0..2 {
        assert_eq!(store.commit(super::creation("b")).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(store.revision().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(!path.exists(), "no new file is made in its place");
    fs::rename(&away, &path).unwrap();
    create(&store, "b").await;
    assert_eq!(names(&store).await, ["a", "b"]);
}

#[tokio::test]
async fn somebody_elses_lock_makes_writes_unavailable_until_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcpctl.db");
    let store = SqlStore::open(&url(&path)).await.unwrap();
    create(&store, "a").await;
    let mut other = std::process::Command::new("python3")
        .args(["-c", LOCKER])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(other.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "locked\n");

    let began = std::time::Instant::now();
    let error = store.commit(super::creation("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(error.retry_after().is_some());
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
    assert_eq!(names(&store).await, ["a"], "reading goes on");
    drop(other.stdin.take());
    other.wait().unwrap();
    create(&store, "c").await;
    assert_eq!(names(&store).await, ["a", "c"]);
}

const LOCKER: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('BEGIN IMMEDIATE')
print('locked', flush=True)
sys.stdin.read()
";
