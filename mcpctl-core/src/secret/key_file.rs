//! Master keys in a file of their own: a line each, the one that writes first.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Keyring, MasterKey};
use crate::error::{Error, Result};

impl Keyring {
    /// The keys in the file at `path`, which is made with a new one, for its owner alone, when it is not there. Blocks.
    ///
    /// # Errors
    ///
    /// Invalid, when the file cannot be read or made, holds no key, or others may read it.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        match read(path) {
            Ok(text) => parse(path, &text),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let ring = Self::new(MasterKey::generate());
                match write_draft(path, &ring).and_then(|draft| link(&draft, path)) {
                    Ok(()) => Ok(ring),
                    // Another process was first.
                    Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                        parse(path, &read(path).map_err(|cause| fault(path, &cause))?)
                    }
                    Err(cause) => Err(fault(path, &cause)),
                }
            }
            Err(cause) => Err(fault(path, &cause)),
        }
    }

    /// Puts a new key that writes into the file at `path`; those that are in it go on reading. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`load_or_create`](Self::load_or_create).
    pub fn add_key(path: &Path) -> Result<Self> {
        let old = Self::load_or_create(path)?;
        let ring = old.keys().cloned().fold(Self::new(MasterKey::generate()), Self::also_reading);
        replace(path, &ring)?;
        Ok(ring)
    }

    /// Leaves only the key that writes in the file at `path`, if it is still the one of this ring. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`load_or_create`](Self::load_or_create).
    pub fn forget_others(&self, path: &Path) -> Result<Self> {
        let now = Self::load_or_create(path)?;
        if now.write_id() != self.write_id() {
            // Somebody has begun another change of keys.
            return Ok(now);
        }
        let ring = now.writing_alone();
        replace(path, &ring)?;
        Ok(ring)
    }
}

fn fault(path: &Path, cause: &io::Error) -> Error {
    Error::invalid(format!("the key file {}: {cause}", path.display()))
}

fn parse(path: &Path, text: &str) -> Result<Keyring> {
    let in_file = |error: Error| error.context(format_args!("the key file {}", path.display()));
    let mut keys = text.lines().filter(|line| !line.trim().is_empty()).map(MasterKey::parse);
    let first = keys.next().unwrap_or_else(|| MasterKey::parse("")).map_err(in_file)?;
    keys.try_fold(Keyring::new(first), |ring, key| Ok(ring.also_reading(key.map_err(in_file)?)))
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut file = OpenOptions::new().read(true).open(path)?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "others may read it (mode {mode:03o}): run chmod 600 on it"
            )));
        }
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Writes the file whole or not at all: a torn key would seal the data for ever.
fn replace(path: &Path, ring: &Keyring) -> Result<()> {
    let replaced = write_draft(path, ring).and_then(|draft| std::fs::rename(draft, path));
    let synced = replaced.and_then(|()| match path.parent() {
        Some(folder) if cfg!(unix) && !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    });
    synced.map_err(|cause| fault(path, &cause))
}

/// Another name for the draft, unless the file is there already.
fn link(draft: &Path, path: &Path) -> io::Result<()> {
    let linked = std::fs::hard_link(draft, path);
    let _ = std::fs::remove_file(draft);
    linked
}

/// The file under another name beside it, on disk.
fn write_draft(path: &Path, ring: &Keyring) -> io::Result<PathBuf> {
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.write(true).create(true).truncate(true).open(&draft)?;
    for key in ring.keys() {
        file.write_all(key.to_base64().as_bytes())?;
        file.write_all(b"\n")?;
    }
    file.sync_all()?;
    Ok(draft)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = Keyring::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Keyring::load_or_create(&path).unwrap().write_id(), made.write_id());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Keyring::load_or_create(&path).unwrap_err().message().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "torn").unwrap();
        assert!(Keyring::load_or_create(&path).is_err());
    }

    #[test]
    fn a_new_key_writes_and_the_old_one_reads_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let old = Keyring::load_or_create(&path).unwrap();
        let sealed = old.seal("ca", 1, b"v").unwrap();
        let both = Keyring::add_key(&path).unwrap();
        assert_eq!(both.read_ids().collect::<Vec<_>>(), [old.write_id()]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = Keyring::load_or_create(&path).unwrap();
        assert_eq!(loaded.write_id(), both.write_id());
        assert!(loaded.open("ca", 1, &sealed).is_ok());
        assert_eq!(old.forget_others(&path).unwrap().read_ids().count(), 1, "not its turn any more");
        assert_eq!(both.forget_others(&path).unwrap().read_ids().count(), 0);
        assert!(Keyring::load_or_create(&path).unwrap().open("ca", 1, &sealed).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }
}
