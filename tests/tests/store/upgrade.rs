//! Databases that an earlier version made keep what is in them.

use std::process::Command;

use mcpctl_core::{
    resource::{AuditEvent, TokenHash},
    store::{EventQuery, EventStore, SqlStore},
};
use serde_json::{Value, json};
use tests::postgres::Postgres;

const FIRST_TABLES: &str = include_str!("../../../mcpctl-core/migrations/2026-01-01-000000_objects/up.sql");

/// What diesel notes of the first migration.
const NOTE: &str = "CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL,
                        run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
                    INSERT INTO __diesel_schema_migrations (version) VALUES ('20260101000000');";

const CALL: &str = "01920000-0000-7000-8000-000000000001";
const LOGIN: &str = "01920000-0000-7000-8000-000000000002";

/// The events as they are shown, now as then, newest first.
fn shown() -> [Value; 2] {
    [
        json!({"id": LOGIN, "at": "2026-01-01T00:00:01Z", "kind": "login", "email": "x@y.example", "result": "refused"}),
        json!({"id": CALL, "at": "2026-01-01T00:00:00.123456Z", "kind": "llm_inference_call", "llmName": "gpt",
               "llmId": "i", "model": "m", "type": "openai", "streaming": true, "durationMs": 12, "status": 200,
               "ttftMs": 3, "promptTokens": 4, "bytesOut": 5, "userId": "u1", "user": "a@b.example",
               "tokenSha": TokenHash::of("t").to_hex(), "requestId": "r"}),
    ]
}

/// A database of the first version, in which an event's text held its id and its time as well.
fn script() -> String {
    let [login, call] = shown();
    format!(
        "{FIRST_TABLES}\n{NOTE}\n
         INSERT INTO audit_events VALUES
             ('{CALL}', 1767225600123456, 'llm_inference_call', 'gpt', 'u1', 'a@b.example', '{call}'),
             ('{LOGIN}', 1767225601000000, 'login', NULL, NULL, 'x@y.example', '{login}');"
    )
}

/// The events are as they were, are found as before, and new ones join them.
async fn check(url: &str) {
    let store = SqlStore::open(url).await.unwrap();
    let find = async |query: EventQuery| store.events(&EventQuery { limit: 10, ..query }).await.unwrap();
    let all = find(EventQuery::default()).await;
    assert_eq!(serde_json::to_value(&all).unwrap(), json!(shown()));
    let text = |text: &str| Some(text.to_owned());
    for (query, found) in [
        (EventQuery { kind: text("login"), ..EventQuery::default() }, &all[..1]),
        (EventQuery { user: text("x@y.example"), ..EventQuery::default() }, &all[..1]),
        (EventQuery { llm: text("gpt"), user: text("u1"), ..EventQuery::default() }, &all[1..]),
        (EventQuery { until: Some(all[0].at), ..EventQuery::default() }, &all[1..]),
    ] {
        assert_eq!(find(query).await, found);
    }
    let new = AuditEvent { id: "01920000-0000-7000-8000-000000000003".into(), ..all[1].clone() };
    store.append([new.clone(), all[0].clone()].into()).await.unwrap();
    assert_eq!(find(EventQuery::default()).await, [&[new], &all[..]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_survive_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcpctl.db");
    let python = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
    let made = Command::new("python3").args(["-c", python]).arg(&path).arg(script()).status().unwrap();
    assert!(made.success());
    check(&format!("sqlite://{}", path.display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_survive_on_postgresql() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.create_database();
    let collation = "CREATE COLLATION IF NOT EXISTS \"binary\" FROM pg_catalog.\"C\";";
    postgres.sql(url.rsplit('/').next().unwrap(), &format!("{collation}\n{}", script()));
    check(&url).await;
}
