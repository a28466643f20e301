//! Reading a file, chunk by chunk.

use std::io::{self, Read};

use aead_stream::DecryptorBE32;
use chacha20poly1305::{XChaCha20Poly1305, aead::Payload};
use zeroize::Zeroizing;

use super::{
    CHUNK, TAG,
    header::{Header, broken},
};
use crate::error::Result;

/// Decrypts what is read from it. Nothing of a chunk is handed out before all of it has proven to be genuine; that
/// there was a last one is known at the end alone.
pub struct Opener<R> {
    input: R,
    header: Header,
    /// `None` once the last chunk was opened.
    stream: Option<DecryptorBE32<XChaCha20Poly1305>>,
    /// The next chunk, as it is in the file: whether it is the last shows in what follows.
    next: Vec<u8>,
    opened: Zeroizing<Vec<u8>>,
    /// How much of what is open was handed out.
    read: usize,
    is_first: bool,
}

impl<R: Read> Opener<R> {
    /// Reads the header. Takes a moment and the memory that the header asks for.
    ///
    /// # Errors
    ///
    /// Invalid, when it is no backup.
    pub fn new(mut input: R, passphrase: &str) -> Result<Self> {
        let header = Header::read(&mut input)?;
        let key = header.key(passphrase)?;
        let stream = DecryptorBE32::new(&(*key).into(), &header.nonce.into());
        let next = chunk(&mut input).map_err(|cause| broken(&cause))?;
        let opened = Zeroizing::new(Vec::new());
        Ok(Self { input, header, stream: Some(stream), next, opened, read: 0, is_first: true })
    }

    fn open_next(&mut self) -> io::Result<()> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        let after = chunk(&mut self.input)?;
        let payload = Payload { msg: self.next.as_slice(), aad: &self.header.bytes };
        let opened = if after.is_empty() {
            stream.decrypt_last(payload)
        } else {
            let opened = stream.decrypt_next(payload);
            self.stream = Some(stream);
            opened
        };
        let opened = opened.map_err(|_| {
            self.stream = None;
            io::Error::new(
                io::ErrorKind::InvalidData,
                match self.is_first {
                    true => "the passphrase is wrong, or the backup is damaged",
                    false => "the backup is damaged or cut off",
                },
            )
        })?;
        (self.opened, self.read, self.next, self.is_first) = (Zeroizing::new(opened), 0, after, false);
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.opened.len() && self.stream.is_some() {
            self.open_next()?;
        }
        let mut left = self.opened.get(self.read..).unwrap_or_default();
        let count = left.read(into)?;
        self.read += count;
        Ok(count)
    }
}

/// The next chunk; empty at the end of the file.
fn chunk(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = CHUNK + TAG;
    let mut chunk = Vec::with_capacity(length);
    input.take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut chunk)?;
    Ok(chunk)
}
