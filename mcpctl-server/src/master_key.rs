//! The master keys: from the environment, or from a key file beside the data.

use std::path::{Path, PathBuf};

use mcpctl_core::{
    Result,
    secret::{Keyring, MasterKey},
};

use crate::config::Secrets;

const FILE: &str = "master.key";

/// The master keys, and where they come from.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) ring: Keyring,
    /// The key file; `None` when they come from the environment.
    pub(crate) file: Option<PathBuf>,
}

/// The keys from the environment, else from the key file, which is made when it is not there.
pub(crate) fn load(secrets: &Secrets, data_dir: &Path) -> Result<Keys> {
    let Some(key) = &secrets.master_key else {
        let file = data_dir.join(FILE);
        return Ok(Keys { ring: Keyring::load_or_create(&file)?, file: Some(file) });
    };
    let parse =
        |name: &'static str| move |text: &str| MasterKey::parse(text).map_err(|error| error.context(name));
    let ring = Keyring::new(parse("MCPCTL_MASTER_KEY")(key.expose())?);
    let old = secrets.old_master_keys.as_ref().map_or("", |keys| keys.expose());
    let mut old =
        old.split([',', ' ', '\n']).filter(|text| !text.is_empty()).map(parse("MCPCTL_OLD_MASTER_KEYS"));
    let ring = old.try_fold(ring, |ring, key| Ok::<_, mcpctl_core::Error>(ring.also_reading(key?)))?;
    Ok(Keys { ring, file: None })
}

#[cfg(test)]
mod tests {
    use mcpctl_core::secret::SecretValue;

    use super::*;

    #[test]
    fn the_environment_wins() {
        let folder = tempfile::tempdir().unwrap();
        let text = |keys: &[&MasterKey]| {
            let keys: Vec<String> = keys.iter().map(|key| key.to_base64().to_string()).collect();
            SecretValue::new(keys.join(","))
        };
        let (key, old, older) = (MasterKey::generate(), MasterKey::generate(), MasterKey::generate());
        let mut secrets = Secrets { master_key: Some(text(&[&key])), ..Secrets::default() };
        assert_eq!(load(&secrets, folder.path()).unwrap().ring.write_id(), key.id());
        secrets.old_master_keys = Some(text(&[&old, &older]));
        let keys = load(&secrets, folder.path()).unwrap();
        assert_eq!(keys.ring.read_ids().collect::<Vec<_>>(), [old.id(), older.id()]);
        assert!(keys.file.is_none() && !folder.path().join(FILE).exists());
        secrets.old_master_keys = Some(SecretValue::new("bad"));
        assert!(load(&secrets, folder.path()).unwrap_err().message().contains("MCPCTL_OLD_MASTER_KEYS"));
        let made = load(&Secrets::default(), folder.path()).unwrap();
        assert_eq!(load(&Secrets::default(), folder.path()).unwrap().ring.write_id(), made.ring.write_id());
    }
}
