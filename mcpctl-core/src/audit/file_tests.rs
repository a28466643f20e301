use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::resource::{Actor, EventDetail, Login};

fn events(count: usize) -> Arc<[AuditEvent]> {
    let login = || Login { email: "a\nb\u{1b}[31m".into(), ..Login::default() };
    (0..count).map(|_| AuditEvent::new(Actor::default(), EventDetail::Login(login()))).collect()
}

fn ids(events: &[AuditEvent]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}

/// The ids in a file, every line of which must be an event.
fn kept(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(id).collect()
}

#[tokio::test]
async fn each_event_is_a_line_for_the_owner_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    let (one, other) = (events(3), events(2));
    let sink = FileSink::open(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    sink.append(one.clone()).await.unwrap();
    drop(sink);
    FileSink::open(&path).unwrap().append(other.clone()).await.unwrap();
    assert_eq!(kept(&path), [ids(&one), ids(&other)].concat());
}

#[tokio::test]
async fn a_file_that_was_rotated_away_is_made_anew() {
    let folder = TempDir::new().unwrap();
    let (path, old) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
    let (one, other, third) = (events(1), events(1), events(1));
    let sink = FileSink::open(&path).unwrap();
    sink.append(one.clone()).await.unwrap();
    fs::rename(&path, &old).unwrap();
    sink.append(other.clone()).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    fs::rename(&path, folder.path().join("audit.jsonl.2")).unwrap();
    fs::write(&path, "").unwrap();
    sink.append(third.clone()).await.unwrap();
    assert_eq!((kept(&old), kept(&path)), (ids(&one), ids(&third)));
    assert_eq!(kept(&folder.path().join("audit.jsonl.2")), ids(&other));
}

#[tokio::test]
async fn a_line_that_a_crash_left_half_is_ended() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    fs::write(&path, "{\"id\":\"whole\"}\n{\"id\":\"ha").unwrap();
    let batch = events(1);
    FileSink::open(&path).unwrap().append(batch.clone()).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["{\"id\":\"whole\"}", "{\"id\":\"ha"]);
    assert!(lines.len() == 3 && lines[2].contains(&batch[0].id), "{text}");
}

#[test]
fn a_write_that_broke_off_goes_on_where_it_was() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    let batch = events(3);
    let (file, identity) = open(&path).unwrap();
    let mut lines = Lines { path: path.clone(), file, identity, half: None };
    lines.append(&batch).unwrap();
    let whole = fs::read(&path).unwrap();
    // As if the disk had been full after the first line and a half.
    let written = whole.len() / 2;
    fs::write(&path, &whole[..written]).unwrap();
    lines.half = Some(Half { event: batch[0].id.clone(), written });
    lines.append(&batch).unwrap();
    assert_eq!(kept(&path), ids(&batch));
    // The same, and the file was rotated away before the rest: its last line is whole in the new one.
    fs::write(&path, &whole[..written]).unwrap();
    fs::rename(&path, folder.path().join("old")).unwrap();
    lines.half = Some(Half { event: batch[0].id.clone(), written });
    lines.append(&batch).unwrap();
    assert_eq!(kept(&path), ids(&batch[1..]));
    // Another batch begins at its beginning.
    let other = events(1);
    lines.half = Some(Half { event: batch[0].id.clone(), written });
    lines.append(&other).unwrap();
    assert_eq!(kept(&path).last(), Some(&other[0].id));
}

#[tokio::test]
async fn what_cannot_be_written_is_an_error() {
    let folder = TempDir::new().unwrap();
    assert!(FileSink::open(folder.path()).is_err(), "a folder");
    assert!(FileSink::open(folder.path().join("none/audit.jsonl")).is_err());
    // A disk that is full.
    assert!(FileSink::open("/dev/full").unwrap().append(events(1)).await.is_err());
}
