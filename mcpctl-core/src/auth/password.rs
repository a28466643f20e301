//! Password hashing: argon2id, a few at once, off the threads that serve requests.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash,
};
use tokio::sync::Semaphore;

use crate::{
    error::{Error, Result},
    secret::SecretValue,
};

/// Hashes and verifies passwords.
pub(crate) struct Passwords {
    /// Each hash takes 19 MiB and a core: more at once would starve inference.
    at_once: Arc<Semaphore>,
    /// What an unknown account's password is compared with, so that it takes as long as a known one's.
    nobody: String,
}

impl Passwords {
    pub(crate) fn new() -> Result<Self> {
        let nobody = hash_now(&SecretValue::new("nobody's password"))?;
        Ok(Self { at_once: Arc::new(Semaphore::new(2)), nobody })
    }

    /// The PHC string of `password`.
    pub(crate) async fn hash(&self, password: SecretValue) -> Result<String> {
        self.off_thread(move || hash_now(&password)).await?
    }

    /// Whether `password` is the one behind `hash`; false, after the same time, when there is no hash.
    pub(crate) async fn verify(&self, password: SecretValue, hash: Option<String>) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let fits = self.off_thread(move || {
            PasswordHash::new(&hash).is_ok_and(|hash| {
                hasher().is_ok_and(|argon| argon.verify_password(password.expose().as_bytes(), &hash).is_ok())
            })
        });
        Ok(fits.await? && known)
    }

    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let permit = self.at_once.clone().acquire_owned().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(Error::internal)
    }
}

fn hasher() -> Result<Argon2<'static>> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|fault| Error::internal(fault.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &SecretValue) -> Result<String> {
    let hash: PasswordHash = hasher()?
        .hash_password(password.expose().as_bytes())
        .map_err(|fault| Error::internal(fault.to_string()))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_fits() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash(SecretValue::new("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify(SecretValue::new("correct horse"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(SecretValue::new("wrong"), Some(hash)).await.unwrap());
        assert!(!passwords.verify(SecretValue::new("nobody's password"), None).await.unwrap());
        assert!(!passwords.verify(SecretValue::new("x"), Some("rubbish".into())).await.unwrap());
    }
}
