//! A provider that costs little: one thread, answers made beforehand.

use std::{rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{MissedTickBehavior, interval},
};

use crate::{
    Result,
    answers::{PACE, SLOW_PACE, Shape, WRITES, events},
    http::{head_end, header},
};

/// The writes of each answer, framed, the heads in the first of them.
struct Answers {
    plain: Vec<u8>,
    each: Vec<Vec<u8>>,
    joined: Vec<Vec<u8>>,
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                             cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

impl Answers {
    fn new() -> Self {
        let body = Shape::Plain.body();
        let mut plain = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        plain.extend_from_slice(&body);
        // Every event is a chunk of its own, as a provider that flushes each writes it.
        let mut each: Vec<Vec<u8>> = events()
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
        Self { plain, each, joined }
    }
}

/// Serves until it is killed. `announce` gets the port.
///
/// # Errors
///
/// When no port can be had.
pub fn serve(announce: impl FnOnce(u16)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener: TcpListener = socket.listen(4096)?;
        announce(listener.local_addr()?.port());
        let answers = Rc::new(Answers::new());
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let answers = answers.clone();
            tokio::task::spawn_local(async move {
                // A client that goes away is none of our business.
                let _ = answer(socket, &answers).await;
            });
        }
    })
}

async fn answer(mut socket: TcpStream, answers: &Answers) -> Result<()> {
    let mut received = Vec::with_capacity(64 * 1024);
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
            Some(Shape::Each) => paced(&mut socket, &answers.each, PACE).await?,
            Some(Shape::Slow) => paced(&mut socket, &answers.each, SLOW_PACE).await?,
            Some(Shape::Joined) => {
                for piece in &answers.joined {
                    socket.write_all(piece).await?;
                }
            }
            None => socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await?,
        }
    }
}

async fn paced(socket: &mut TcpStream, pieces: &[Vec<u8>], pace: Duration) -> Result<()> {
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for piece in pieces {
        ticks.tick().await;
        socket.write_all(piece).await?;
    }
    Ok(())
}
