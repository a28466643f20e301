//! PostgreSQL that goes away, hangs, and comes back.

use std::time::{Duration, Instant};

use mcpctl_core::{
    Error, ErrorKind,
    store::{Announced, SqlStore, Store},
};
use tests::{postgres::Postgres, within};

use super::{create, creation, names};

/// Longer than any call may take.
const BOUND: Duration = Duration::from_secs(11);

async fn is_unavailable<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Error>>) {
    let began = Instant::now();
    let error = call.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(error.retry_after().is_some());
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_is_unavailable_until_it_is_back() {
    let Some(postgres) = Postgres::start() else { return };
    let store = SqlStore::open(&postgres.create_database()).await.unwrap();
    create(&store, "a").await;
    assert_eq!(names(&store).await, ["a"]);
    for (stop, name) in [(Postgres::stop as fn(&Postgres), "b"), (Postgres::kill9, "c")] {
        stop(&postgres);
        is_unavailable(store.revision()).await;
        is_unavailable(store.commit(creation("lost"))).await;
        is_unavailable(store.revision()).await;
        postgres.start_again();
        create(&store, name).await;
    }
    assert_eq!(names(&store).await, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_unavailable_until_it_goes_on() {
    let Some(postgres) = Postgres::start() else { return };
    let store = SqlStore::open(&postgres.create_database()).await.unwrap();
    create(&store, "a").await;
    postgres.freeze();
    tokio::join!(is_unavailable(store.revision()), is_unavailable(store.commit(creation("b"))));
    postgres.thaw();
    create(&store, "c").await;
    let names = names(&store).await;
    assert!(names == ["a", "c"] || names == ["a", "b", "c"], "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_come_back_whatever_happens() {
    let Some(postgres) = Postgres::start() else { return };
    let store = SqlStore::open(&postgres.create_database()).await.unwrap();
    let mut heard = store.announcements().unwrap();
    let mut next = async |what: &str, wanted: Announced| {
        let wait = heard.wait_for(|now| match (now, wanted) {
            (Announced::UpTo(now), Announced::UpTo(least)) => *now >= least,
            (now, wanted) => *now == wanted,
        });
        within(Duration::from_secs(20), what, wait).await.unwrap();
    };
    next("listening", Announced::UpTo(0)).await;
    for name in ["stopped", "killed", "cut", "cut again"] {
        match name {
            "stopped" => postgres.stop(),
            "killed" => postgres.kill9(),
            _ => cut(&postgres),
        }
        next(name, Announced::Nothing).await;
        if !name.starts_with("cut") {
            postgres.start_again();
        }
        next(&format!("listening after: {name}"), Announced::UpTo(0)).await;
        create(&store, &name.replace(' ', "-")).await;
        next(&format!("a commit after: {name}"), Announced::UpTo(store.revision().await.unwrap())).await;
    }
    postgres.freeze();
    postgres.thaw();
    create(&store, "thawed").await;
    next("a commit after a thaw", Announced::UpTo(store.revision().await.unwrap())).await;
}

/// Ends the connection that listens.
fn cut(postgres: &Postgres) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'mcpctl listener'";
    assert!(postgres.sql("postgres", sql).contains('t'), "nobody listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_given_up_makes_writes_unavailable() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.create_database();
    let store = SqlStore::open(&url).await.unwrap();
    create(&store, "a").await;
    let database = url.rsplit('/').next().unwrap().to_owned();
    let blocker = std::thread::spawn(move || {
        postgres
            .sql(&database, "BEGIN; LOCK TABLE store_revision IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(8)")
    });
    let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND locktype = 'relation'";
    while postgres.sql(url.rsplit('/').next().unwrap(), locks) == "0\n" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_unavailable(store.commit(creation("b"))).await;
    assert_eq!(names(&store).await, ["a"], "reading goes on");
    blocker.join().unwrap();
    create(&store, "c").await;
    assert_eq!(names(&store).await, ["a", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_show_no_password() {
    let Some(postgres) = Postgres::shared() else { return };
    let working = postgres.create_database();
    let with_password = working.replace("postgres@", "nobody:pa55w0rd@");
    for url in [
        with_password.clone(),
        format!("{with_password}?pa55w0rd=1"),
        format!("{with_password}?sslmode=pa55w0rd"),
        with_password.replace("127.0.0.1:", "127.0.0.1:x"),
        "postgres://u:pa55w0rd@127.0.0.1:1/x".to_owned(),
        "postgres://u:pa55w0rd".to_owned(),
        "postgres://u:pa55w0rd%ZZ@[::1/x".to_owned(),
        "postgres:/u:pa55w0rd@h/x".to_owned(),
    ] {
        let error = SqlStore::open(&url).await.err().unwrap();
        let shown = format!("{error} {error:?} {}", error.chain());
        assert!(!shown.contains("pa55w0rd"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_may_migrate_at_once_and_share_the_database() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.create_database();
    let open = || SqlStore::open(&url);
    let (one, two, three) = tokio::join!(open(), open(), open());
    let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
    create(&one, "a").await;
    create(&two, "b").await;
    assert_eq!(names(&three).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_of_a_newer_build_are_passed_over_and_its_tables_refused() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.create_database();
    let database = url.rsplit('/').next().unwrap();
    let store = SqlStore::open(&url).await.unwrap();
    create(&store, "a").await;
    postgres.sql(
        database,
        "INSERT INTO objects SELECT 'x', 'gadgets', name, spec, version, revision, created_at, updated_at FROM objects;
         INSERT INTO object_changes VALUES ('x', 'gadgets', 1), ('y', 'gadgets', 1)",
    );
    let changes = store.changes(0).await.unwrap();
    assert!(matches!(changes, mcpctl_core::store::Changes::All { objects, .. } if objects.len() == 1));
    postgres.sql(database, "INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')");
    let error = SqlStore::open(&url).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("newer version"), "{error}");
}
