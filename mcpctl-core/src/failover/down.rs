//! Which of the client's errors mean that the server, or the provider behind it, is down.

use std::error::Error as _;

use super::router::Down;
use crate::{client::Unreachable, error::Error};

impl Down for Error {
    /// Decided by the class of the error: what kept the server from answering, else the status of its answer.
    fn is_down(&self) -> bool {
        match self.source().and_then(|cause| cause.downcast_ref::<Unreachable>()) {
            Some(Unreachable::NotOurs { status }) => status.is_some_and(|status| status >= 500),
            Some(
                Unreachable::Refused
                | Unreachable::UnknownHost
                | Unreachable::Tls
                | Unreachable::Timeout
                | Unreachable::Broken,
            ) => true,
            None => self.kind().status() >= 500,
        }
    }
}

/// What went wrong, in a few words: whoever reads this knows which server is meant, and what to do about it.
pub(super) fn in_short(error: &Error) -> String {
    let unreachable = error.source().and_then(|cause| cause.downcast_ref::<Unreachable>());
    unreachable.map_or_else(|| error.message().to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_status_is_down_from_500_on() {
        for status in 400..600 {
            let kind = ErrorKind::from_status(status);
            assert_eq!(Error::new(kind, "no").is_down(), status >= 500, "{status}");
        }
    }

    #[test]
    fn something_else_in_the_server_s_place_counts_by_its_status() {
        for (status, down) in
            [(None, false), (Some(200), false), (Some(302), false), (Some(404), false), (Some(502), true)]
        {
            let error = Error::new(ErrorKind::Unavailable, "no").caused_by(Unreachable::NotOurs { status });
            assert_eq!(error.is_down(), down, "{status:?}");
        }
    }

    #[test]
    fn words_decide_nothing() {
        let error = Error::invalid("502 Bad Gateway: connection refused, timed out");
        assert!(!error.is_down());
        let error = Error::new(ErrorKind::Unavailable, "400 Bad Request").caused_by(Unreachable::Refused);
        assert!(error.is_down());
    }
}
