//! HTTP/1.1 by hand, for what a well-behaved library would never send or show: broken requests, and answers
//! that break off.

use std::{
    io::{Error, ErrorKind, Result},
    net::SocketAddr,
    time::Duration,
};

use bytes::{Buf, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::wait::within;

/// A connection that messages are read from and bytes are written to.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// The first line and the headers of a message.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The request line or the status line.
    pub start: String,
    /// The headers, in order.
    pub headers: Vec<(String, String)>,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct RawReply {
    /// The status.
    pub status: u16,
    /// The first line and the headers.
    pub head: Head,
    /// The body, as far as it came.
    pub body: Vec<u8>,
}

impl Connection {
    /// Wraps an accepted connection.
    pub fn new(stream: TcpStream) -> Self {
        // Each write must be a packet of its own, or a fault that depends on it would not be one.
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    /// Writes all of `bytes`.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Waits until the other side closes. What it sends until then is kept for later.
    pub async fn closed(&mut self) {
        loop {
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The first line and headers of the next message; `None` when the other side closed before it began.
    pub async fn head(&mut self) -> Result<Option<Head>> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            match self.more().await {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && self.buffer.is_empty() => {
                    return Ok(None);
                }
                other => other?,
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.advance(end + 4);
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Head { start, headers }))
    }

    /// The body that follows `head`, appended to `body` as it comes, so that a part of it is there even when it
    /// breaks off. Without a length, it ends with the connection when `to_the_end`, else it is empty.
    pub async fn body(&mut self, head: &Head, to_the_end: bool, body: &mut Vec<u8>) -> Result<()> {
        if head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunks(body).await;
        }
        let length = match head.header("content-length") {
            Some(length) => length.parse().map_err(|_| Error::from(ErrorKind::InvalidData))?,
            None if to_the_end => usize::MAX,
            None => 0,
        };
        while body.len() < length {
            let part = self.buffer.len().min(length - body.len());
            body.extend_from_slice(&self.buffer.split_to(part));
            if body.len() < length {
                match self.more().await {
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof && length == usize::MAX => break,
                    other => other?,
                }
            }
        }
        Ok(())
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// The next chunk of a body that comes in chunks; `None` behind the last one.
    pub async fn chunk(&mut self) -> Result<Option<BytesMut>> {
        let end = loop {
            match find(&self.buffer, b"\r\n") {
                Some(end) => break end,
                None => self.more().await?,
            }
        };
        let size = std::str::from_utf8(&self.buffer[..end]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let size = size.ok_or(ErrorKind::InvalidData)?;
        self.buffer.advance(end + 2);
        while self.buffer.len() < size + 2 {
            self.more().await?;
        }
        let chunk = self.buffer.split_to(size);
        self.buffer.advance(2);
        Ok((size > 0).then_some(chunk))
    }

    /// The next answer, read to its end; `None` when the server closed without one. A body that breaks off is
    /// given as far as it came.
    pub async fn reply(&mut self) -> Option<RawReply> {
        let head = self.head().await.ok().flatten()?;
        let status = head.start.split(' ').nth(1)?.parse().ok()?;
        let mut body = Vec::new();
        let _ = self.body(&head, true, &mut body).await;
        Some(RawReply { status, head, body })
    }
}

impl Head {
    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl RawReply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{} with a body that is no JSON ({error}): {:?}", self.status, self.text())
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends `bytes` as they are, and reads one answer; `None` when the server closed without one.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<RawReply> {
    let mut connection = Connection::open(address).await;
    // A server may answer and close before it has read everything: that is no fault.
    let _ = within(Duration::from_secs(20), "sending a raw request", connection.write(bytes)).await;
    within(Duration::from_secs(20), "the answer to a raw request", connection.reply()).await
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}
