//! Reading a body that is wanted whole.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body::Body;

/// Why a body could not be read whole.
#[derive(Debug)]
pub enum BodyFault<E> {
    /// It is longer than it may be.
    TooLong,
    /// It took too long.
    TooSlow,
    /// It broke off.
    Broken(E),
}

/// Reads a body to its end. What comes in one piece is not copied.
///
/// # Errors
///
/// When it is longer than `limit` bytes, in which case the rest is not read; when that takes longer than `patience`;
/// or when it breaks off.
pub async fn read_whole<B>(body: B, limit: usize, patience: Duration) -> Result<Bytes, BodyFault<B::Error>>
where
    B: Body<Data = Bytes>,
{
    let mut reading = pin!(read(body, limit));
    // Most bodies are here already, and then there is no need to look at the clock.
    if let Poll::Ready(whole) = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        return whole;
    }
    tokio::time::timeout(patience, reading).await.unwrap_or(Err(BodyFault::TooSlow))
}

/// The same in whatever time it takes.
pub(super) async fn read<B>(body: B, limit: usize) -> Result<Bytes, BodyFault<B::Error>>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        // Trailers say nothing that is of use here.
        let Ok(piece) = frame.map_err(BodyFault::Broken)?.into_data() else { continue };
        if piece.len() > limit - joined.len().max(first.len()) {
            return Err(BodyFault::TooLong);
        }
        if first.is_empty() {
            first = piece;
            continue;
        }
        if joined.is_empty() {
            // What is announced is believed only as far as it may go.
            let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
            joined.reserve((first.len() + piece.len()).saturating_add(announced).min(limit));
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&piece);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io, pin::Pin, task::Context};

    use http_body::Frame;

    use super::*;

    struct Pieces(VecDeque<io::Result<&'static str>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            let next = self.0.pop_front();
            Poll::Ready(next.map(|piece| piece.map(|text| Frame::data(Bytes::from_static(text.as_bytes())))))
        }
    }

    async fn read(pieces: &[&'static str], limit: usize) -> Result<Bytes, BodyFault<io::Error>> {
        read_whole(Pieces(pieces.iter().copied().map(Ok).collect()), limit, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn pieces_are_joined_and_one_is_left_as_it_is() {
        assert_eq!(read(&[], 0).await.unwrap(), "");
        assert_eq!(read(&["", "abc", ""], 3).await.unwrap(), "abc");
        assert_eq!(read(&["a", "", "bc", "d"], 4).await.unwrap(), "abcd");
        static TEXT: &str = "one piece";
        let whole = read(&[TEXT], 100).await.unwrap();
        assert_eq!(whole.as_ptr(), TEXT.as_ptr());
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused_at_once() {
        for pieces in [&["abcd"][..], &["abc", "d"], &["a", "b", "c", "d", "never reached"]] {
            assert!(matches!(read(pieces, 3).await, Err(BodyFault::TooLong)), "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let pieces = [Ok("half"), Err(io::ErrorKind::ConnectionReset.into())];
        let read = read_whole(Pieces(pieces.into()), 100, Duration::from_secs(5)).await;
        assert!(matches!(read, Err(BodyFault::Broken(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        struct Never;
        impl Body for Never {
            type Data = Bytes;
            type Error = io::Error;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
                Poll::Pending
            }
        }
        let read = read_whole(Never, 100, Duration::from_secs(5)).await;
        assert!(matches!(read, Err(BodyFault::TooSlow)));
    }
}
