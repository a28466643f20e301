//! Events as lines of a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::AuditSink;
use crate::{
    error::{Error, Result},
    resource::AuditEvent,
};

/// A sink that appends each event to a file, as a line of JSON.
///
/// A file that was rotated away is made anew at the next write, for its owner alone. What was appended has been handed
/// to the operating system and survives the end of the process, not the loss of power: lines are not synced.
///
/// The file has a thread of its own, so that one that hangs holds nothing else up.
pub struct FileSink(mpsc::Sender<Job>);

struct Job {
    events: Arc<[AuditEvent]>,
    done: oneshot::Sender<io::Result<()>>,
}

/// The file, and what is half done in it.
struct Lines {
    path: PathBuf,
    file: File,
    identity: Identity,
    half: Option<Half>,
}

/// What tells a file from another one with the same path.
type Identity = (u64, u64);

/// A write that broke off.
struct Half {
    /// The first event of the batch.
    event: String,
    /// Bytes of the batch that are written.
    written: usize,
}

impl FileSink {
    /// Opens the file, which is made when it is not there, with mode 0600.
    ///
    /// # Errors
    ///
    /// Invalid, when the file cannot be opened for writing.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let fault = |cause: io::Error| {
            let message = format!("the audit file `{}` cannot be opened: {cause}", path.display());
            Error::invalid(message).caused_by(cause)
        };
        let (file, identity) = open(&path).map_err(fault)?;
        let mut lines = Lines { path, file, identity, half: None };
        let (jobs, inbox) = mpsc::channel::<Job>();
        let write = move || {
            while let Ok(Job { events, done }) = inbox.recv() {
                // Whoever waited may have given up.
                let _ = done.send(lines.append(&events));
            }
        };
        thread::Builder::new().name("audit-file".to_owned()).spawn(write).map_err(Error::internal)?;
        Ok(Self(jobs))
    }
}

#[async_trait]
impl AuditSink for FileSink {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        let (done, result) = oneshot::channel();
        let _ = self.0.send(Job { events, done });
        match result.await {
            Ok(result) => result.map_err(|cause| Error::internal(cause).during("audit.file")),
            Err(gone) => Err(Error::internal(gone).during("audit.file")),
        }
    }
}

impl Lines {
    fn append(&mut self, events: &[AuditEvent]) -> io::Result<()> {
        let Some(first) = events.first() else { return Ok(()) };
        let mut bytes = Vec::with_capacity(events.len().saturating_mul(512));
        for event in events {
            serde_json::to_writer(&mut bytes, event)?;
            bytes.push(b'\n');
        }
        let half = self.half.take().filter(|half| half.event == first.id);
        let mut written = half.map_or(0, |half| half.written);
        let result = self.write(&bytes, &mut written);
        if result.is_err() {
            self.half = Some(Half { event: first.id.clone(), written });
        }
        result
    }

    /// Writes what is left of `bytes`, and notes how far it came.
    fn write(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        if identity(&self.path).is_none_or(|identity| identity != self.identity) {
            (self.file, self.identity) = open(&self.path)?;
            // A line that broke off in the old file is written whole in the new one.
            let done = bytes.get(..*written).unwrap_or_default();
            *written = done.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        }
        while let Some(rest @ [_, ..]) = bytes.get(*written..) {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, Identity)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    // Whether the last line is whole can only be seen in a real file.
    let is_file = path.metadata().map_or(true, |metadata| metadata.is_file());
    if path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        // Opening one would wait for somebody to read it.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is a named pipe"));
    }
    let mut file = options.read(is_file).open(path)?;
    if is_file && ends_within_a_line(&mut file)? {
        // The process before this one was killed as it wrote.
        file.write_all(b"\n")?;
    }
    let metadata = file.metadata()?;
    Ok((file, (metadata.dev(), metadata.ino())))
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn identity(path: &Path) -> Option<Identity> {
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
