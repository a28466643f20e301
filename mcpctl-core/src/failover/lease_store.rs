//! Where leases are kept between two runs of a program.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// What is kept of one server.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The latest time that this machine's clock has shown, in seconds since 1970.
    pub latest: i64,
    /// The server's public keys, as a JWK Set.
    pub keys: Value,
    /// The leases, by the Llm's name.
    pub leases: BTreeMap<String, String>,
}

/// Keeps leases. Its methods may block; they are called where that disturbs nobody.
pub trait LeaseStore: Send + Sync {
    /// What is kept of the server at this URL; nothing is a default.
    ///
    /// # Errors
    ///
    /// When what is kept cannot be read.
    fn load(&self, server: &str) -> Result<Kept>;

    /// Changes what is kept of the server at this URL, as a whole, against whatever other programs do at the same time.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    fn update(&self, server: &str, change: &mut dyn FnMut(&mut Kept)) -> Result<()>;
}

/// Leases that end with the program.
#[derive(Default)]
pub struct MemoryLeases(Mutex<HashMap<String, Kept>>);

impl LeaseStore for MemoryLeases {
    fn load(&self, server: &str) -> Result<Kept> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.get(server).cloned().unwrap_or_default())
    }

    fn update(&self, server: &str, change: &mut dyn FnMut(&mut Kept)) -> Result<()> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(kept.entry(server.to_owned()).or_default());
        Ok(())
    }
}

/// Leases in a file that its owner alone may read: `{"<URL of a server>": {…}}`.
///
/// The file is not protected against its owner. It need not be: whoever may write it may call the local model without
/// mcpctl as well.
#[derive(Clone, Debug)]
pub struct FileLeases(PathBuf);

impl FileLeases {
    /// Leases in the file at `path`, which need not exist. Beside it, one that ends in `.lock` is made.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn read(&self) -> io::Result<BTreeMap<String, Kept>> {
        match fs::read(&self.0) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, server: &str, change: &mut dyn FnMut(&mut Kept)) -> io::Result<()> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        make_private_folder(folder)?;
        // Held until the end of this function: two programs that change the file do so one after the other.
        let lock =
            File::options().create(true).truncate(false).write(true).open(self.0.with_extension("lock"))?;
        lock.lock()?;
        // A damaged file holds no lease, and is replaced.
        let mut all = self.read().unwrap_or_default();
        change(all.entry(server.to_owned()).or_default());
        // Temporary files have mode 0600, and a rename keeps it.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, &all)?;
        file.as_file().sync_all()?;
        file.persist(&self.0).map_err(|error| error.error)?;
        Ok(())
    }
}

impl LeaseStore for FileLeases {
    fn load(&self, server: &str) -> Result<Kept> {
        let mut all = self.read().map_err(|cause| self.fault("reading", cause))?;
        Ok(all.remove(server).unwrap_or_default())
    }

    fn update(&self, server: &str, change: &mut dyn FnMut(&mut Kept)) -> Result<()> {
        self.replace(server, change).map_err(|cause| self.fault("writing", cause))
    }
}

impl FileLeases {
    fn fault(&self, doing: &str, cause: io::Error) -> Error {
        Error::internal(cause).context(format_args!("{doing} {}", self.0.display()))
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
