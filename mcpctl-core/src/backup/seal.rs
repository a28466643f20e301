//! Writing a file, chunk by chunk.

use std::io::{self, Write};

use aead_stream::EncryptorBE32;
use chacha20poly1305::{XChaCha20Poly1305, aead::Payload};
use zeroize::Zeroizing;

use super::{
    CHUNK,
    header::{Cost, Header},
};
use crate::error::{Error, Result};

/// Encrypts what is written to it. [`finish`](Self::finish) writes the last chunk: without it, the file is cut off.
pub struct Sealer<W> {
    out: W,
    header: Header,
    stream: EncryptorBE32<XChaCha20Poly1305>,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    /// Writes the header. Takes a moment and 64 MiB for the key.
    ///
    /// # Errors
    ///
    /// Internal, when nothing can be written.
    pub fn new(out: W, passphrase: &str) -> Result<Self> {
        Self::with_cost(out, passphrase, Cost::DEFAULT)
    }

    pub(super) fn with_cost(mut out: W, passphrase: &str, cost: Cost) -> Result<Self> {
        let header = Header::new(cost);
        let key = header.key(passphrase)?;
        let stream = EncryptorBE32::new(&(*key).into(), &header.nonce.into());
        out.write_all(&header.bytes).map_err(unwritten)?;
        // One that grew would leave copies of what was in it.
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK));
        Ok(Self { out, header, stream, chunk })
    }

    /// Writes what is left, marked as the last, and gives back where it was written to.
    ///
    /// # Errors
    ///
    /// Internal, when that cannot be written.
    pub fn finish(mut self) -> Result<W> {
        let payload = Payload { msg: self.chunk.as_slice(), aad: &self.header.bytes };
        let sealed =
            self.stream.encrypt_last(payload).map_err(|_| Error::internal("encrypting the backup"))?;
        self.out.write_all(&sealed).map_err(unwritten)?;
        self.out.flush().map_err(unwritten)?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK && !bytes.is_empty() {
            // There is more, so it is not the last.
            let payload = Payload { msg: self.chunk.as_slice(), aad: &self.header.bytes };
            let too_long = |_| io::Error::other("the backup is too long");
            let sealed = self.stream.encrypt_next(payload).map_err(too_long)?;
            self.out.write_all(&sealed)?;
            self.chunk.clear();
        }
        let taken = bytes.get(..CHUNK.saturating_sub(self.chunk.len())).unwrap_or(bytes);
        self.chunk.extend_from_slice(taken);
        Ok(taken.len())
    }

    /// Does nothing: a chunk is written when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn unwritten(cause: io::Error) -> Error {
    Error::new(crate::error::ErrorKind::Internal, format!("writing the backup: {cause}"))
}
