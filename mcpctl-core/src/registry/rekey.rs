//! Another master key: every stored value is encrypted anew, one by one, while everything goes on.
//!
//! Each value changes whole or not at all, and both keys read until none is left under the old one: so this may be
//! stopped at any moment, and run again.

use std::collections::BTreeMap;

use super::{
    Registry,
    open::{KEY_CHECK, KEY_CHECK_TEXT, key_fits},
};
use crate::{
    error::{Error, ErrorKind, Result},
    resource::{Actor, AuditEvent, EventDetail, Id, Rekey, kinds},
    secret::Keyring,
    store::{Condition, Outcome, Txn, Write},
};

/// How often a value is looked at anew because it changed meanwhile.
const ATTEMPTS: usize = 8;

/// What became of the stored values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// The id of the master key that writes.
    pub key: String,
    /// Values that were encrypted anew.
    pub renewed: usize,
    /// Values that could not be, by the id of the key that they are under: `?` for what is damaged.
    pub left: BTreeMap<String, usize>,
}

impl Registry {
    /// Uses other master keys from now on.
    ///
    /// # Errors
    ///
    /// Sealed, when none of them fits what is stored: then those in use stay.
    pub async fn use_keyring(&self, keyring: Keyring) -> Result<()> {
        if !key_fits(&*self.inner.store, &keyring).await? {
            return Err(Error::new(ErrorKind::Sealed, "none of these master keys fits the stored values"));
        }
        self.inner.plaintext.use_keyring(keyring);
        Ok(())
    }

    /// The master keys in use.
    pub fn keyring(&self) -> std::sync::Arc<Keyring> {
        self.inner.plaintext.keyring()
    }

    /// Encrypts every stored value anew that is not under the key that writes. `progress` hears how many of all
    /// values have been looked at. `actor` is who does it, for the audit trail.
    ///
    /// # Errors
    ///
    /// Sealed; unavailable. What was done stays done.
    pub async fn rekey(&self, actor: Actor, mut progress: impl FnMut(usize, usize)) -> Result<Rekeyed> {
        if self.is_sealed() {
            return Err(Error::new(ErrorKind::Sealed, "the master key does not fit the stored values"));
        }
        let mut outcome = Rekeyed { key: self.keyring().write_id().to_owned(), ..Rekeyed::default() };
        let secrets = self.inner.store.list(kinds::SECRETS).await?;
        for (done, secret) in secrets.iter().enumerate() {
            progress(done, secrets.len());
            self.rewrap(&secret.id, &mut outcome).await?;
        }
        self.rewrap_signing_key(&mut outcome).await?;
        // Last of all: until here, the old key must be known to fit.
        self.rewrap_check(&mut outcome).await?;
        progress(secrets.len(), secrets.len());
        if outcome.renewed > 0 {
            let values = u64::try_from(outcome.renewed).unwrap_or(u64::MAX);
            let event = EventDetail::Rekey(Rekey { key: outcome.key.clone(), values });
            self.audit().record(AuditEvent::new(actor, event)).await?;
        }
        Ok(outcome)
    }

    async fn rewrap(&self, secret: &Id, outcome: &mut Rekeyed) -> Result<()> {
        let (store, keyring) = (&self.inner.store, self.keyring());
        for _ in 0..ATTEMPTS {
            // Its version first: when the value changes after that, the commit is refused.
            let Some(object) = store.get(kinds::SECRETS, secret).await? else { return Ok(()) };
            let Some(sealed) = store.value(secret.as_str()).await? else { return Ok(()) };
            let under = Keyring::wrapped_by(&sealed);
            if under.as_deref() == Some(keyring.write_id()) {
                return Ok(());
            }
            let version = super::secrets::value_version(&object)?;
            let opened = match keyring.open(secret.as_str(), version, &sealed) {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::error!(secret = object.name, error = error.chain(), "not encrypted anew");
                    *outcome.left.entry(under.unwrap_or_else(|| "?".to_owned())).or_default() += 1;
                    return Ok(());
                }
            };
            let value = keyring.seal(secret.as_str(), version, &opened)?;
            let txn = Txn {
                conditions: vec![Condition::Version {
                    kind: kinds::SECRETS,
                    id: secret.clone(),
                    version: object.version,
                }],
                writes: vec![Write::PutValue { key: secret.as_str().to_owned(), value }],
                events: Vec::new(),
            };
            if let Outcome::Committed(_) = store.commit(txn).await? {
                outcome.renewed += 1;
                return Ok(());
            }
        }
        Err(Error::conflict("a secret kept changing meanwhile: try again"))
    }

    async fn rewrap_check(&self, outcome: &mut Rekeyed) -> Result<()> {
        let (store, keyring) = (&self.inner.store, self.keyring());
        let under = store.value(KEY_CHECK).await?.as_deref().and_then(Keyring::wrapped_by);
        if under.as_deref() == Some(keyring.write_id()) || !outcome.left.is_empty() {
            return Ok(());
        }
        let value = keyring.seal(KEY_CHECK, 1, KEY_CHECK_TEXT)?;
        let writes = vec![Write::PutValue { key: KEY_CHECK.to_owned(), value }];
        store.commit(Txn { writes, ..Txn::default() }).await.map(drop)
    }
}
