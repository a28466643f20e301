//! The `plaintext` backend: values in the server's own database, encrypted at rest.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{Found, Keyring, Over, SecretBackend, SecretData, SecretValue, Slot, Stored};
use crate::{
    error::{Error, ErrorKind, Result},
    store::{Storage, Write},
};

/// Keeps values in the store, sealed by the keyring. The name is historical: nothing is kept in clear.
pub struct PlaintextBackend {
    store: Arc<dyn Storage>,
    keyring: ArcSwap<Keyring>,
}

impl PlaintextBackend {
    /// A backend over `store`.
    pub fn new(store: Arc<dyn Storage>, keyring: Keyring) -> Self {
        Self { store, keyring: ArcSwap::from_pointee(keyring) }
    }

    /// The keys in use.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.keyring.load_full()
    }

    /// Uses other keys from now on.
    pub fn use_keyring(&self, keyring: Keyring) {
        self.keyring.store(Arc::new(keyring));
    }

    /// The same backend over another store.
    pub(crate) fn over(&self, store: Arc<dyn Storage>) -> Self {
        Self { store, keyring: ArcSwap::new(self.keyring.load_full()) }
    }
}

#[async_trait]
impl SecretBackend for PlaintextBackend {
    async fn read(&self, slot: &Slot) -> Result<Found> {
        let Some(sealed) = self.store.value(slot.id.as_str()).await? else {
            return Err(Error::new(ErrorKind::SecretUnavailable, "its stored value is missing"));
        };
        let opened = self.keyring.load().open(slot.id.as_str(), slot.version, &sealed)?;
        let data: BTreeMap<String, String> = serde_json::from_slice(&opened)
            .map_err(|_| Error::new(ErrorKind::SecretUnavailable, "its stored value is malformed"))?;
        let data = data.into_iter().map(|(key, value)| (key, SecretValue::new(value))).collect();
        Ok(Found { data, revision: 0 })
    }

    async fn write(&self, slot: &Slot, data: &SecretData, _: Over) -> Result<Stored> {
        let exposed: BTreeMap<&str, &str> =
            data.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
        let plain = Zeroizing::new(serde_json::to_vec(&exposed).map_err(Error::internal)?);
        let value = self.keyring.load().seal(slot.id.as_str(), slot.version, &plain)?;
        let write = Write::PutValue { key: slot.id.as_str().to_owned(), value };
        Ok(Stored { writes: vec![write], ..Stored::default() })
    }

    async fn delete(&self, slot: &Slot) -> Result<Vec<Write>> {
        Ok(vec![Write::DeleteValue { key: slot.id.as_str().to_owned() }])
    }
}
