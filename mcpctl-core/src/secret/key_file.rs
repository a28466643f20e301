//! A master key in a file of its own.

use std::{
    fs::OpenOptions,
    io::{self, Read as _, Write as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::MasterKey;
use crate::error::{Error, Result};

impl MasterKey {
    /// The key in the file at `path`, which is made, for its owner alone, when it is not there. Blocks.
    ///
    /// # Errors
    ///
    /// Invalid, when the file cannot be read or made, holds no key, or others may read it.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        let fault = |cause: io::Error| Error::invalid(format!("the key file {}: {cause}", path.display()));
        let parse = |text: &str| {
            Self::parse(text).map_err(|error| error.context(format_args!("the key file {}", path.display())))
        };
        match read(path) {
            Ok(text) => parse(&text),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => match create(path) {
                Ok(key) => Ok(key),
                // Another process was first.
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                    parse(&read(path).map_err(fault)?)
                }
                Err(cause) => Err(fault(cause)),
            },
            Err(cause) => Err(fault(cause)),
        }
    }
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

/// Makes the file whole or not at all: a torn key would seal the data for ever.
fn create(path: &Path) -> io::Result<MasterKey> {
    let key = MasterKey::generate();
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.write(true).create(true).truncate(true).open(&draft)?;
    let made = file.write_all(key.to_base64().as_bytes()).and_then(|()| file.write_all(b"\n"));
    let linked = made.and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&draft, path));
    let _ = std::fs::remove_file(&draft);
    linked.map(|()| key)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::load_or_create(&path).unwrap().id(), made.id());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(MasterKey::load_or_create(&path).unwrap_err().message().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "torn").unwrap();
        assert!(MasterKey::load_or_create(&path).is_err());
    }
}
