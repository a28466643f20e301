//! A provider that costs little: one thread, answers made beforehand.

use std::{net::SocketAddr, path::Path, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Result,
    answers::{PACE, SLOW_PACE, Shape, WRITES, events},
    http::{head_end, header},
    http2, messages, tls,
};

/// The writes of each answer, framed, the heads in the first of them.
struct Answers {
    plain: Vec<u8>,
    stream: Stream,
    message: Vec<u8>,
    message_stream: Stream,
}

/// A stream, event by event and in fewer writes.
struct Stream {
    each: Vec<Vec<u8>>,
    joined: Vec<Vec<u8>>,
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                             cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

impl Answers {
    fn new() -> Self {
        Self {
            plain: framed(&Shape::Plain.body()),
            stream: Stream::new(events()),
            message: framed(&messages::whole()),
            message_stream: Stream::new(messages::events()),
        }
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Stream {
    fn new(events: Vec<Vec<u8>>) -> Self {
        // Every event is a chunk of its own, as a provider that flushes each writes it.
        let mut each: Vec<Vec<u8>> = events
            .into_iter()
            .map(|event| [format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat())
            .collect();
        if let Some(first) = each.first_mut() {
            first.splice(..0, STREAM_HEAD.iter().copied());
        }
        if let Some(last) = each.last_mut() {
            last.extend_from_slice(b"0\r\n\r\n");
        }
        let joined = each.chunks(each.len().div_ceil(WRITES)).map(<[Vec<u8>]>::concat).collect();
        Self { each, joined }
    }
}

/// Where a stub listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// HTTP/1.1.
    pub plain: SocketAddr,
    /// HTTP/1.1 in TLS.
    pub tls: SocketAddr,
    /// HTTP/2 in TLS.
    pub http2: SocketAddr,
}

/// Serves until it is killed. The certificate to trust is written to `certificate`, then `announce` gets the
/// addresses.
///
/// # Errors
///
/// When no port can be had, or the certificate cannot be written.
pub fn serve(certificate: &Path, announce: impl FnOnce(Addresses)) -> Result<()> {
    let identity = tls::Identity::new()?;
    std::fs::write(certificate, identity.certificate())?;
    let (tls, http2) = (identity.acceptor(b"http/1.1")?, identity.acceptor(b"h2")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (plain, with_tls, with_http2) = (listen()?, listen()?, listen()?);
        announce(Addresses {
            plain: plain.local_addr()?,
            tls: with_tls.local_addr()?,
            http2: with_http2.local_addr()?,
        });
        let answers = Rc::new(Answers::new());
        loop {
            let (answers, tls, http2) = (answers.clone(), tls.clone(), http2.clone());
            // A client that goes away is none of our business.
            tokio::select! {
                taken = plain.accept() => {
                    let socket = at_once(taken)?;
                    tokio::task::spawn_local(async move { drop(answer(socket, &answers).await) });
                }
                taken = with_tls.accept() => {
                    let socket = at_once(taken)?;
                    tokio::task::spawn_local(async move { drop(answer_tls(tls, socket, &answers).await) });
                }
                taken = with_http2.accept() => {
                    let socket = at_once(taken)?;
                    tokio::task::spawn_local(async move { drop(http2::answer(http2, socket).await) });
                }
            }
        }
    })
}

fn listen() -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    Ok(socket.listen(8192)?)
}

fn at_once(taken: std::io::Result<(TcpStream, SocketAddr)>) -> Result<TcpStream> {
    let (socket, _) = taken?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn answer_tls(acceptor: TlsAcceptor, socket: TcpStream, answers: &Answers) -> Result<()> {
    answer(acceptor.accept(socket).await?, answers).await
}

async fn answer(mut socket: impl AsyncRead + AsyncWrite + Unpin, answers: &Answers) -> Result<()> {
    let mut received = Vec::with_capacity(4 * 1024);
    loop {
        let end = loop {
            match head_end(&received) {
                Some(end) => break end,
                None if socket.read_buf(&mut received).await? == 0 => return Ok(()),
                None => {}
            }
        };
        let head = &received[..end];
        let length: usize = header(head, "content-length").ok_or("no length")?.parse()?;
        let path = std::str::from_utf8(head)?.split(' ').nth(1).ok_or("no path")?;
        let shape = Shape::of_path(path);
        while received.len() < end + length {
            if socket.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        }
        received.drain(..end + length);
        match shape {
            Some(Shape::Plain) => socket.write_all(&answers.plain).await?,
            Some(Shape::Message) => socket.write_all(&answers.message).await?,
            Some(Shape::Each) => paced(&mut socket, &answers.stream.each, PACE).await?,
            Some(Shape::MessageEach) => paced(&mut socket, &answers.message_stream.each, PACE).await?,
            Some(Shape::Slow) => paced(&mut socket, &answers.stream.each, SLOW_PACE).await?,
            Some(Shape::Joined) => at_a_time(&mut socket, &answers.stream.joined).await?,
            Some(Shape::MessageJoined) => at_a_time(&mut socket, &answers.message_stream.joined).await?,
            None => socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await?,
        }
        // TLS may hold something back until then.
        socket.flush().await?;
    }
}

async fn at_a_time(socket: &mut (impl AsyncWrite + Unpin), pieces: &[Vec<u8>]) -> Result<()> {
    for piece in pieces {
        socket.write_all(piece).await?;
        socket.flush().await?;
    }
    Ok(())
}

async fn paced(socket: &mut (impl AsyncWrite + Unpin), pieces: &[Vec<u8>], pace: Duration) -> Result<()> {
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for piece in pieces {
        ticks.tick().await;
        socket.write_all(piece).await?;
        socket.flush().await?;
    }
    Ok(())
}
