//! Whether a server on this machine is well: one request, one connection, one deadline.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// The status with which `address` answers a GET of `path`; `None` when it does not answer within `limit`.
///
/// The connection is a new one each time: one that is left from before says nothing about who listens now.
pub(crate) async fn status(address: SocketAddr, path: &str, limit: Duration) -> Option<StatusCode> {
    let ask = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let request =
            Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new()).ok()?;
        let answer = async move { sender.send_request(request).await.ok().map(|answer| answer.status()) };
        // The connection is at work until the answer's head is there; what becomes of it then is of no interest.
        tokio::pin!(answer, connection);
        tokio::select! {
            biased;
            status = &mut answer => status,
            _ = &mut connection => answer.await,
        }
    };
    timeout(limit, ask).await.ok().flatten()
}
