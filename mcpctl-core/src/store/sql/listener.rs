//! Hears of commits from PostgreSQL, by `LISTEN` and `NOTIFY`.

use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc, time::Duration};

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use futures_core::Stream as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    fault::{Fault, unavailable},
    pool::PATIENCE,
    postgres::Server,
};
use crate::{error::Result, store::Announced};

/// Where commits are announced, with their revisions.
pub(super) const CHANNEL: &str = "mcpctl_changes";

/// The name is for those who look at the database's connections.
const LISTEN: &str = "SET application_name = 'mcpctl listener'; LISTEN mcpctl_changes";
/// Says nothing to others, but comes back to us when we hear.
const CALL: &str = "NOTIFY mcpctl_changes";
/// When nothing was heard for so long, it is tried whether anything would be.
const SILENCE: Duration = Duration::from_secs(10);

/// How long to wait before listening is tried again: first, and at most, when it keeps ending at once.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// Tells what is announced, until nobody wants to know. Whatever happens to the connection, another one is made.
pub(super) async fn listen(server: Arc<Server>, tell: watch::Sender<Announced>) {
    tokio::select! {
        () = tell.closed() => {}
        () = listen_for_ever(&server, &tell) => {}
    }
}

async fn listen_for_ever(server: &Server, tell: &watch::Sender<Announced>) {
    let [first, longest] = PAUSES;
    let mut pause = first;
    loop {
        let began = Instant::now();
        let Err(error) = hear(server, tell).await;
        if began.elapsed() > longest {
            pause = first;
        }
        if tell.send_replace(Announced::Nothing) == Announced::Nothing {
            tracing::debug!(error = error.chain(), "the database still announces no changes");
        } else {
            tracing::warn!(error = error.chain(), "the database announces no changes; asking it more often");
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Listens on a new connection until it fails.
async fn hear(server: &Server, tell: &watch::Sender<Announced>) -> Result<Infallible> {
    let mut conn = server.establish_async().await?;
    say(&mut conn, LISTEN).await?;
    loop {
        // Between us and the database may be a pooler that lets no announcement through, or nobody any more.
        // Only what is heard proves that something would be.
        say(&mut conn, CALL).await?;
        let mut patience = PATIENCE;
        while let Ok(payload) = timeout(patience, next(&mut conn)).await {
            note(&payload?, tell);
            patience = SILENCE;
        }
        if patience == PATIENCE {
            return Err(unavailable().caused_by("what is announced does not arrive"));
        }
    }
}

async fn say(conn: &mut AsyncPgConnection, sql: &str) -> Result<()> {
    match timeout(PATIENCE, conn.batch_execute(sql)).await {
        Ok(said) => said.map_err(|error| Fault::from(error).into_error(false)),
        Err(_) => Err(unavailable().caused_by("the database server does not answer")),
    }
}

/// The next announcement.
async fn next(conn: &mut AsyncPgConnection) -> Result<String> {
    let mut announcements = pin!(conn.notifications_stream());
    match poll_fn(|cx| announcements.as_mut().poll_next(cx)).await {
        Some(Ok(notification)) => Ok(notification.payload),
        Some(Err(error)) => Err(unavailable().caused_by(error)),
        None => Err(unavailable().caused_by("the connection was closed")),
    }
}

fn note(payload: &str, tell: &watch::Sender<Announced>) {
    // A call has no revision.
    let revision = payload.parse().ok();
    tell.send_if_modified(|announced| match (revision, *announced) {
        (None, Announced::UpTo(_)) => false,
        (_, was) => {
            if was == Announced::Nothing {
                tracing::debug!("the database announces changes");
            }
            *announced = Announced::UpTo(revision.unwrap_or_default());
            true
        }
    });
}
