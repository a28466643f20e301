//! The master key: from the environment, or from a key file beside the data.

use std::path::Path;

use mcpctl_core::{
    Result,
    secret::{MasterKey, SecretValue},
};

const FILE: &str = "master.key";

/// The key from the environment, else from the key file, which is made when it is not there.
pub(crate) fn load(from_environment: Option<&SecretValue>, data_dir: &Path) -> Result<MasterKey> {
    match from_environment {
        Some(text) => MasterKey::parse(text.expose()).map_err(|error| error.context("MCPCTL_MASTER_KEY")),
        None => MasterKey::load_or_create(&data_dir.join(FILE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::generate();
        let text = SecretValue::new(key.to_base64().as_str());
        assert_eq!(load(Some(&text), folder.path()).unwrap().id(), key.id());
        assert!(!folder.path().join(FILE).exists());
        assert!(load(Some(&SecretValue::new("bad")), folder.path()).is_err());
        let made = load(None, folder.path()).unwrap();
        assert_eq!(load(None, folder.path()).unwrap().id(), made.id());
    }
}
