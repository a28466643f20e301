//! The credentials of backends, which are in Secrets of other backends.

use std::sync::{Arc, Weak};

use async_trait::async_trait;

use super::{Registry, backends::no_key, open::Inner};
use crate::{
    error::{Error, Result},
    resource::{ApiKeyRef, kinds},
    secret::{Credentials, SecretValue},
};

/// Gets credentials from Secrets, as they are now.
pub(super) struct FromSecrets(Weak<Inner>);

impl FromSecrets {
    pub(super) fn new(registry: &Registry) -> Self {
        Self(Arc::downgrade(&registry.inner))
    }
}

#[async_trait]
impl Credentials for FromSecrets {
    async fn credential(&self, at: &ApiKeyRef) -> Result<SecretValue> {
        let Some(inner) = self.0.upgrade() else { return Err(Error::internal("the registry has ended")) };
        let registry = Registry { inner };
        let secret = registry.as_stored(kinds::SECRETS, &at.id, &at.name).await?;
        let found = registry.read_values(&secret).await?;
        found.data.get(&at.key).cloned().ok_or_else(|| no_key(&at.name, &at.key))
    }
}
