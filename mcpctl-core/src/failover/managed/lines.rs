//! The last lines that a program printed.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::secret::SecretValue;

/// How many lines are kept.
const KEPT: usize = 50;
/// How many of them an error shows.
const SHOWN: usize = 10;
/// How much of a line is kept, in bytes.
const LENGTH: usize = 500;

/// The last lines of a program, newest last.
#[derive(Debug)]
pub(super) struct Lines {
    kept: Mutex<VecDeque<String>>,
    /// Nothing that may be seen.
    secret: Option<SecretValue>,
}

impl Lines {
    /// None yet. `secret` will not be seen in any.
    pub(super) fn new(secret: Option<SecretValue>) -> Self {
        Self { kept: Mutex::default(), secret: secret.filter(|secret| !secret.expose().is_empty()) }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    /// As the end of an error's message.
    pub(super) fn told(&self) -> String {
        let kept = self.lock();
        if kept.is_empty() {
            return "; it printed nothing".to_owned();
        }
        let shown = kept.iter().skip(kept.len().saturating_sub(SHOWN));
        shown.fold("; its last lines:".to_owned(), |told, line| told + "\n  " + line)
    }

    /// Reads until the end, and tells `hear` of each line.
    pub(super) async fn read(&self, mut output: impl AsyncRead + Unpin, hear: impl Fn(&str)) {
        let (mut space, mut line) = ([0; 4096], Vec::new());
        // Enough of it that a secret that is cut short is known for one.
        let length = LENGTH + self.secret.as_ref().map_or(0, |secret| secret.expose().len());
        while let Ok(read @ 1..) = output.read(&mut space).await {
            for byte in space.get(..read).unwrap_or_default() {
                match byte {
                    // A bar of progress is drawn anew on the same line.
                    b'\n' | b'\r' => {
                        self.push(&line, &hear);
                        line.clear();
                    }
                    _ if line.len() < length => line.push(*byte),
                    _ => {}
                }
            }
        }
        self.push(&line, &hear);
    }

    fn push(&self, line: &[u8], hear: impl Fn(&str)) {
        let mut line = String::from_utf8_lossy(line).into_owned();
        if let Some(secret) = &self.secret {
            line = line.replace(secret.expose(), "[redacted]");
        }
        let line: String = line.chars().filter(|letter| !letter.is_control()).collect();
        if line.trim().is_empty() {
            return;
        }
        let line = line.get(..line.floor_char_boundary(LENGTH)).unwrap_or(&line).trim_end();
        hear(line);
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_without_secrets_and_without_end() {
        let lines = Lines::new(Some(SecretValue::new("hunter2")));
        assert_eq!(lines.told(), "; it printed nothing");
        let flood: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let text = format!("{flood}\n10%\r50%\rkey hunter2\x07\n{}\nhalf", "x".repeat(100_000));
        lines.read(text.as_bytes(), |_| ()).await;
        let all = lines.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[KEPT - 5..KEPT - 2], ["10%", "50%", "key [redacted]"]);
        assert_eq!((all[KEPT - 2].len(), all[KEPT - 1].as_str()), (LENGTH, "half"));
        assert_eq!(lines.told().lines().count(), 1 + SHOWN);
    }
}
