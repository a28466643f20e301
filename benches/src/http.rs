//! As much of HTTP/1.1 as the measurements need, so that the tools cost little and hide nothing.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::Result;

/// Where the head of a message ends; `None` while it is not all there.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header in a head.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A request with a JSON body.
pub fn request(method: &str, path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\naccept: */*\r\n\
         user-agent: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One call of an API on a connection of its own: the status, and the body if it is JSON.
pub fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> Result<(u16, Value)> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.write_all(&request(method, path, token, &body.to_string()))?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = head_end(&answer) {
            let length = header(&answer[..end], "content-length").and_then(|text| text.parse::<usize>().ok());
            if answer.len() >= end + length.unwrap_or(0) {
                let status = std::str::from_utf8(&answer[9..12])?.parse()?;
                return Ok((status, serde_json::from_slice(&answer[end..]).unwrap_or_default()));
            }
        }
        match socket.read(&mut piece)? {
            0 => return Err(format!("{method} {path}: the connection was closed").into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
}

/// How the rest of an answer is framed.
#[derive(Debug)]
enum Framing {
    /// So many bytes are to come.
    Length(usize),
    /// The line with the size of a chunk is to come.
    Size,
    /// So many bytes of a chunk are to come, with the line end behind them.
    Chunk(usize),
    /// The line behind the last chunk is to come.
    Last,
    /// All is there.
    Done,
}

/// Stands in what is expected where any digit will do. No answer has this byte.
pub const ANY_DIGIT: u8 = 0;

/// Compares the body of an answer with what is expected, as it arrives.
#[derive(Debug)]
pub struct Checker<'a> {
    expected: &'a [u8],
    at: usize,
    framing: Framing,
}

impl<'a> Checker<'a> {
    /// Reads the head of an answer, which must be a success.
    ///
    /// # Errors
    ///
    /// When it is none, or is not framed.
    pub fn new(head: &[u8], expected: &'a [u8]) -> Result<Self> {
        let text = || String::from_utf8_lossy(head).into_owned();
        if !head.starts_with(b"HTTP/1.1 200") {
            return Err(format!("not a success: {}", text()).into());
        }
        let framing = match header(head, "content-length") {
            Some(length) => Framing::Length(length.parse()?),
            None if header(head, "transfer-encoding") == Some("chunked") => Framing::Size,
            None => return Err(format!("an answer without a length: {}", text()).into()),
        };
        Ok(Self { expected, at: 0, framing })
    }

    /// Takes what has arrived, and says how much of it was used. What was not used must be given again, with more.
    ///
    /// # Errors
    ///
    /// When the body is not what is expected.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match self.framing {
                Framing::Length(0) => self.end()?,
                Framing::Length(left) => {
                    let here = left.min(rest.len());
                    self.compare(&rest[..here])?;
                    (self.framing, used) = (Framing::Length(left - here), used + here);
                }
                Framing::Size => {
                    let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(used) };
                    let size = std::str::from_utf8(&rest[..end])?.trim_end();
                    let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)?;
                    self.framing = if size == 0 { Framing::Last } else { Framing::Chunk(size + 2) };
                    used += end + 1;
                }
                Framing::Chunk(0) => self.framing = Framing::Size,
                Framing::Chunk(left) => {
                    let here = left.min(rest.len());
                    self.compare(&rest[..here.min(left.saturating_sub(2))])?;
                    (self.framing, used) = (Framing::Chunk(left - here), used + here);
                }
                Framing::Last => {
                    if rest.len() < 2 {
                        return Ok(used);
                    }
                    used += 2;
                    self.end()?;
                }
                Framing::Done => return Ok(used),
            }
            if used == bytes.len() && !matches!(self.framing, Framing::Length(0)) {
                return Ok(used);
            }
        }
    }

    /// Whether the whole body was there.
    pub fn is_done(&self) -> bool {
        matches!(self.framing, Framing::Done)
    }

    fn end(&mut self) -> Result<()> {
        self.framing = Framing::Done;
        match self.expected.len() - self.at {
            0 => Ok(()),
            missing => Err(format!("{missing} bytes are missing at the end").into()),
        }
    }

    fn compare(&mut self, bytes: &[u8]) -> Result<()> {
        let expected = self.expected.get(self.at..self.at + bytes.len());
        if expected != Some(bytes) && !expected.is_some_and(|expected| fits(bytes, expected)) {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            return Err(format!("wrong bytes after {}: {text}", self.at).into());
        }
        self.at += bytes.len();
        Ok(())
    }
}

/// The longer way to compare, where something stands for any digit.
fn fits(bytes: &[u8], expected: &[u8]) -> bool {
    let same =
        |(byte, expected): (&u8, &u8)| byte == expected || (*expected == ANY_DIGIT && byte.is_ascii_digit());
    bytes.len() == expected.len() && bytes.iter().zip(expected).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, body: &[u8], step: usize) -> Result<bool> {
        let mut checker = Checker::new(head.as_bytes(), b"hello world")?;
        let mut have = Vec::new();
        for piece in body.chunks(step) {
            have.extend_from_slice(piece);
            let used = checker.take(&have)?;
            have.drain(..used);
        }
        assert!(!checker.is_done() || have.is_empty());
        Ok(checker.is_done())
    }

    #[test]
    fn bodies_are_compared_however_they_arrive() {
        let (length, chunked) = (
            "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        for step in 1..40 {
            assert!(check(length, b"hello world", step).unwrap());
            assert!(check(chunked, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", step).unwrap());
            assert!(!check(chunked, b"5\r\nhello\r\n6\r\n world\r\n0\r\n", step).unwrap());
            assert!(check(length, b"hello World", step).is_err());
            assert!(check(chunked, b"5\r\nhello\r\n0\r\n\r\n", step).is_err());
        }
        assert!(fits(b"a12b", &[b'a', ANY_DIGIT, ANY_DIGIT, b'b']));
        assert!(!fits(b"a1xb", &[b'a', ANY_DIGIT, ANY_DIGIT, b'b']));
        assert!(check("HTTP/1.1 500 No\r\n\r\n", b"", 1).is_err());
    }
}
