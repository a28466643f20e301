//! The master key: from the environment, or from a key file beside the data.

use std::{
    fs::OpenOptions,
    io::{ErrorKind as Io, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use mcpctl_core::{
    Error, Result,
    secret::{MasterKey, SecretValue},
};
use zeroize::Zeroizing;

const FILE: &str = "master.key";

/// The key from the environment, else from the key file, which is made when it is not there.
pub(crate) fn load(from_environment: Option<&SecretValue>, data_dir: &Path) -> Result<MasterKey> {
    if let Some(text) = from_environment {
        return MasterKey::parse(text.expose()).map_err(|error| error.context("MCPCTL_MASTER_KEY"));
    }
    let path = data_dir.join(FILE);
    let fault = |cause: std::io::Error| Error::invalid(format!("the key file {}: {cause}", path.display()));
    match read(&path) {
        Ok(text) => MasterKey::parse(&text)
            .map_err(|error| error.context(format_args!("the key file {}", path.display()))),
        Err(cause) if cause.kind() == Io::NotFound => match create(&path) {
            Ok(key) => Ok(key),
            // Another server on the same folder was first.
            Err(cause) if cause.kind() == Io::AlreadyExists => MasterKey::parse(&read(&path).map_err(fault)?),
            Err(cause) => Err(fault(cause)),
        },
        Err(cause) => Err(fault(cause)),
    }
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut file = OpenOptions::new().read(true).open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(std::io::Error::other(format!(
            "others may read it (mode {mode:03o}): run chmod 600 on it"
        )));
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Makes the file whole or not at all: a torn key would seal the data for ever.
fn create(path: &Path) -> std::io::Result<MasterKey> {
    let key = MasterKey::generate();
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let made = file.write_all(key.to_base64().as_bytes()).and_then(|()| file.write_all(b"\n"));
    let linked = made.and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&draft, path));
    let _ = std::fs::remove_file(&draft);
    linked.map(|()| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let made = load(None, folder.path()).unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(None, folder.path()).unwrap().id(), made.id());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(None, folder.path()).unwrap_err().message().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "torn").unwrap();
        assert!(load(None, folder.path()).is_err());
    }

    #[test]
    fn the_environment_wins() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::generate();
        let text = SecretValue::new(key.to_base64().as_str());
        assert_eq!(load(Some(&text), folder.path()).unwrap().id(), key.id());
        assert!(!folder.path().join(FILE).exists());
        assert!(load(Some(&SecretValue::new("bad")), folder.path()).is_err());
    }
}
