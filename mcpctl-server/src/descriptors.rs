//! File descriptors: each connection needs one, and the system gives a process only so many.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Those that are no connections: the database, the log, the runtimes.
const OTHERS: usize = 256;

/// Raises the limit of this process as far as it may, and says what it is; `None` is no limit.
///
/// The usual soft limit of 1,024 is for programs that use `select`, which breaks on more; this one does not.
pub(crate) fn raise_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let soft = limit.current;
        limit.current = limit.maximum;
        if let Err(fault) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%fault, "the limit of file descriptors could not be raised");
            return soft;
        }
    }
    limit.current
}

/// How many connections of clients fit when `wanted` are wanted, besides one to a provider for each of the
/// `in_flight` calls. Where that is too much, providers get a quarter: most clients are idle most of the time.
pub(crate) fn fit(wanted: usize, in_flight: usize, limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return wanted };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let needed = wanted.saturating_add(in_flight).saturating_add(OTHERS);
    if needed <= limit {
        return wanted;
    }
    let fits = limit.saturating_sub(OTHERS + in_flight.min(limit / 4)).clamp(1, wanted.max(1));
    tracing::warn!(
        limit,
        needed,
        max_connections = fits,
        "the limit of file descriptors (`ulimit -n`) is lower than needed: fewer connections are taken"
    );
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_connections_as_fit() {
        assert_eq!(fit(20_000, 10_000, None), 20_000);
        assert_eq!(fit(20_000, 10_000, Some(1 << 20)), 20_000);
        assert_eq!(fit(20_000, 10_000, Some(20_000)), 14_744);
        assert_eq!(fit(20_000, 100, Some(20_000)), 19_644);
        assert_eq!(fit(20_000, 10_000, Some(1024)), 512);
        assert_eq!(fit(500, 100, Some(1024)), 500);
        assert_eq!(fit(500, 10_000, Some(1024)), 500, "never more than were wanted");
        assert_eq!(fit(20_000, 10_000, Some(64)), 1);
    }
}
