//! Waiting with a deadline, never by a bare sleep.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// The longest a test waits for something that should happen soon.
pub const SOON: Duration = Duration::from_secs(10);

/// What `future` gives, or a failure naming `what` when it takes longer than `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

/// Asks `probe` again and again until it gives something, or fails naming `what` after [`SOON`].
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(SOON, what, probe).await
}

/// Asks `probe` again and again until it gives something, or fails naming `what` after `limit`.
pub async fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        sleep(Duration::from_millis(5)).await;
    }
}
