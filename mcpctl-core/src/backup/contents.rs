//! What is in a file: lines of JSON.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read, Write},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Opener, Sealer, header::cut_off, seal::unwritten};
use crate::{
    error::{Error, ErrorKind, Result},
    resource::{Kind, Spec},
};

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of the server that it was made of.
    pub server_version: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether the values of Secrets are in it.
    pub with_values: bool,
    /// How many resources there are, by the plural of their kind.
    pub counts: BTreeMap<String, u64>,
}

/// A backup.
#[derive(Clone, PartialEq)]
pub struct Contents {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The resources, each with its `kind`.
    pub resources: Vec<Spec>,
}

impl std::fmt::Debug for Contents {
    /// The manifest alone: the resources hold hashes and values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.manifest)
    }
}

/// Writes a backup, encrypted with `passphrase`. `wrote` is told after each resource.
///
/// # Errors
///
/// Invalid, when the manifest does not count what is there; internal, when nothing can be written.
pub fn write<W: Write>(out: W, passphrase: &str, contents: &Contents, wrote: impl FnMut()) -> Result<W> {
    contents.check()?;
    write_to(Sealer::new(out, passphrase)?, contents, wrote)
}

pub(super) fn write_to<W: Write>(
    mut out: Sealer<W>,
    contents: &Contents,
    mut wrote: impl FnMut(),
) -> Result<W> {
    write_line(&mut out, &contents.manifest)?;
    for resource in &contents.resources {
        write_line(&mut out, resource)?;
        wrote();
    }
    out.finish()
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> Result<()> {
    let mut line = Zeroizing::new(serde_json::to_vec(line).map_err(Error::internal)?);
    line.push(b'\n');
    out.write_all(&line).map_err(unwritten)
}

/// Reads a whole backup. `read` is told after each resource.
///
/// # Errors
///
/// Invalid, saying what is wrong: the passphrase, a file that is damaged or cut off, or what is in it.
pub fn read(input: impl Read, passphrase: &str, mut read: impl FnMut()) -> Result<Contents> {
    let mut input = BufReader::new(Opener::new(input, passphrase)?);
    let manifest = next_line(&mut input)?.ok_or_else(cut_off)?;
    let manifest = serde_json::from_slice(&manifest).map_err(|_| malformed("its manifest"))?;
    let mut resources = Vec::new();
    while let Some(line) = next_line(&mut input)? {
        let resource = serde_json::from_slice(&line);
        resources.push(resource.map_err(|_| malformed(format_args!("resource {}", resources.len() + 1)))?);
        read();
    }
    let contents = Contents { manifest, resources };
    contents.check()?;
    Ok(contents)
}

fn next_line(input: &mut BufReader<Opener<impl Read>>) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::new());
    // The message is one of ours, unless the file itself could not be read.
    input.read_until(b'\n', &mut line).map_err(|cause| Error::invalid(cause.to_string()))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(cut_off()),
    }
}

fn malformed(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, format!("the backup is genuine, but {what} cannot be read"))
}

impl Contents {
    /// Refuses resources that are none, and others than the manifest counts.
    fn check(&self) -> Result<()> {
        let mut counts = BTreeMap::new();
        for (index, resource) in self.resources.iter().enumerate() {
            let text = |name: &str| resource.get(name).and_then(Value::as_str);
            let Some(kind) = text("kind").and_then(Kind::parse) else {
                return Err(malformed(format_args!(
                    "resource {} is of a kind that this program does not know, and so it",
                    index + 1
                )));
            };
            if text("name").is_none_or(str::is_empty) {
                return Err(malformed(format_args!("resource {} has no name, and so it", index + 1)));
            }
            *counts.entry(kind.plural.to_owned()).or_insert(0) += 1;
        }
        let told: BTreeMap<String, u64> = self
            .manifest
            .counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(k, c)| (k.clone(), *c))
            .collect();
        if told != counts {
            return Err(malformed("its manifest counts other resources than there are, and so it"));
        }
        Ok(())
    }
}
