//! What the pieces of a request cost, as the benches of this package say.

use std::{collections::HashMap, path::Path, process::Command};

use crate::{Result, build};

/// A piece of a request.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What it is.
    pub title: &'static str,
    /// Nanoseconds per request.
    pub nanos: f64,
}

/// What a plain request needs, which lines of the `micro` bench that is, and for how many requests they are.
const PARTS: [(&str, &[&str], f64); 7] = [
    ("reading the request's body", &["request scan, 600 B"], 1.0),
    ("authentication", &["snapshot and authenticate"], 1.0),
    ("permission, and finding the Llm", &["rbac decide", "llm look-up"], 1.0),
    ("the provider's request: the body rewritten", &["request rewrite, 600 B"], 1.0),
    ("reading the provider's answer", &["answer decode, 600 B"], 1.0),
    ("the audit event, and its way through the queue", &["audit event, 1000 of them"], 1000.0),
    ("metrics", &["metrics"], 1.0),
];

/// The audit trail's writer, where this version measures it: the row of the batch that a loaded server writes.
const WRITING: (&str, &str) = ("writing the audit event to SQLite, in batches", "1000");

/// Measures all pieces.
///
/// # Errors
///
/// When a bench does not build, or does not say what it should.
pub fn measure() -> Result<Vec<Piece>> {
    let said = rows(&bench("micro", &[])?);
    let mut pieces = Vec::new();
    for (title, names, requests) in PARTS {
        let mut nanos = 0.0;
        for name in names {
            nanos += said.get(*name).ok_or_else(|| format!("the bench says nothing of `{name}`"))?;
        }
        pieces.push(Piece { title, nanos: nanos / requests });
    }
    if Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/events.rs")).exists() {
        let (title, batch) = WRITING;
        // Its second part, reading a long trail, is none of a request's.
        let said = rows(&bench("events", &[("EVENTS", "0")])?);
        let micros = said.get(batch).ok_or("the bench says nothing of writing events")?;
        pieces.push(Piece { title, nanos: micros * 1e3 });
    }
    Ok(pieces)
}

fn bench(name: &str, environment: &[(&str, &str)]) -> Result<String> {
    let output =
        Command::new(build::executable("--bench", name)?).envs(environment.iter().copied()).output()?;
    if !output.status.success() {
        return Err(format!("the bench `{name}` failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The first number of each row of a table, by the row's name.
fn rows(table: &str) -> HashMap<String, f64> {
    let row = |line: &str| {
        let mut cells = line.trim().trim_matches('|').split('|').map(str::trim);
        Some((cells.next()?.to_owned(), cells.next()?.parse().ok()?))
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_table_are_read() {
        let said =
            rows("| piece | ns |\n| --- | ---: |\n| rbac decide | 12 |\n| 1000 | 7.5 | 9.0 |\n\n17 bytes\n");
        assert_eq!(said.get("rbac decide"), Some(&12.0));
        assert_eq!(said.get("1000"), Some(&7.5));
        assert_eq!(said.len(), 2);
    }
}
