//! The folder `~/.mcpctl` and its files.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::failure::Failure;

/// The folder that holds the CLI's files.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// `MCPCTL_HOME`, or `.mcpctl` in the user's home folder.
    pub(crate) fn find() -> Result<Self, Failure> {
        if let Some(folder) = std::env::var_os("MCPCTL_HOME").filter(|folder| !folder.is_empty()) {
            return Ok(Self(folder.into()));
        }
        let base = directories::BaseDirs::new()
            .ok_or_else(|| Failure::new("no home folder is known").hint("set MCPCTL_HOME to a folder"))?;
        Ok(Self(base.home_dir().join(".mcpctl")))
    }

    /// A home in `folder`.
    #[cfg(test)]
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The JSON in a file, or `None` when there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Value>, Failure> {
        let path = self.file(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::new(format!("reading {}: {error}", path.display()))),
        };
        if text.trim().is_empty() {
            return Ok(None);
        }
        let value = serde_json::from_str(&text).map_err(|error| {
            Failure::new(format!("reading {}: {error}", path.display()))
                .hint("correct the file, or delete it")
        })?;
        Ok(Some(value))
    }

    /// Replaces a file as a whole, readable by its owner alone from its first instant.
    pub(crate) fn write(&self, name: &str, value: &Value) -> Result<(), Failure> {
        let path = self.file(name);
        self.replace(&path, value)
            .map_err(|error| Failure::new(format!("writing {}: {error}", path.display())))
    }

    fn replace(&self, path: &Path, value: &Value) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.0);
        make_private_folder(folder)?;
        // Temporary files have mode 0600, and a rename keeps it.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}
