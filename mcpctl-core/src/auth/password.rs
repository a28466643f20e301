//! Password hashing: argon2id, on few threads at once, which give way to those that serve requests.

use std::{sync::Arc, thread, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    error::{Error, Result},
    secret::SecretValue,
};

/// Hashes and verifies passwords.
pub(crate) struct Passwords {
    /// Each hash takes 19 MiB and a core: more at once would starve inference.
    at_once: Arc<Semaphore>,
    line: Semaphore,
    /// What an unknown account's password is compared with, so that it takes as long as a known one's.
    nobody: String,
}

/// The right to hash one password now.
pub(crate) type Turn = OwnedSemaphorePermit;

/// Hashes that may wait for their turn. A hash takes some 20 ms.
const LINE: usize = 500;

impl Passwords {
    pub(crate) fn new() -> Result<Self> {
        let nobody = hash_now(&SecretValue::new("nobody's password"))?;
        // Half of the cores are always free of it.
        let at_once = thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4));
        Ok(Self { at_once: Arc::new(Semaphore::new(at_once)), line: Semaphore::new(LINE), nobody })
    }

    /// Waits in line.
    pub(crate) async fn turn(&self) -> Result<Turn> {
        let too_many = |_| Error::unavailable("too many logins at once", Duration::from_secs(5));
        let _place = self.line.try_acquire().map_err(too_many)?;
        self.at_once.clone().acquire_owned().await.map_err(Error::internal)
    }

    /// The PHC string of `password`.
    pub(crate) async fn hash(&self, password: SecretValue) -> Result<String> {
        off_thread(self.turn().await?, move || hash_now(&password)).await?
    }

    /// Whether `password` is the one behind `hash`; false, after the same time, when there is no hash.
    pub(crate) async fn verify(&self, password: SecretValue, hash: Option<String>) -> Result<bool> {
        self.verify_in(self.turn().await?, password, hash).await
    }

    /// The same for one whose turn it is.
    pub(crate) async fn verify_in(
        &self,
        turn: Turn,
        password: SecretValue,
        hash: Option<String>,
    ) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let fits = off_thread(turn, move || {
            PasswordHash::new(&hash).is_ok_and(|hash| {
                hasher().is_ok_and(|argon| argon.verify_password(password.expose().as_bytes(), &hash).is_ok())
            })
        });
        Ok(fits.await? && known)
    }
}

/// Does `work` on a thread of its own, which lives for it alone: a thread that has given way stays behind for ever.
/// The turn ends with the work, whether or not anybody waits for it.
async fn off_thread<T: Send + 'static>(turn: Turn, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    let hash = move || {
        give_way();
        let _ = done.send(work());
        drop(turn);
    };
    thread::Builder::new().name("password".to_owned()).spawn(hash).map_err(Error::internal)?;
    result.await.map_err(Error::internal)
}

/// Lets all other threads of this process go first.
fn give_way() {
    // On Linux alone, a process of that sort is a thread. When it is not allowed, few hashes at once must do.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 10);
}

/// Whether a hash from elsewhere can be verified, and costs no more than ours do many times over.
pub(crate) fn is_hash(text: &str) -> bool {
    let Ok(hash) = PasswordHash::new(text) else { return false };
    let Ok(params) = Params::try_from(&hash) else { return false };
    let modest = params.m_cost() <= 256 * 1024 && params.t_cost() <= 16 && params.p_cost() <= 16;
    hash.algorithm.as_str() == "argon2id" && hash.hash.is_some() && modest
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

    #[test]
    fn hashes_from_elsewhere_are_looked_at() {
        let ours = hash_now(&SecretValue::new("secret word")).unwrap();
        assert!(is_hash(&ours));
        for bad in [
            "",
            "secret word",
            &ours[..30],
            &ours.replace("m=19456", "m=4194304"),
            &ours.replace("argon2id", "argon2i"),
        ] {
            assert!(!is_hash(bad), "{bad}");
        }
    }

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
    #[tokio::test]
    async fn a_line_that_is_too_long_is_refused_and_goes_on() {
        let passwords = Passwords::new().unwrap();
        let free = u32::try_from(passwords.at_once.available_permits()).unwrap();
        let all = passwords.at_once.clone().acquire_many_owned(free).await.unwrap();
        let mut waiting: Vec<_> = (0..LINE).map(|_| Box::pin(passwords.turn())).collect();
        for turn in &mut waiting {
            assert!(at_once(turn).await.is_none());
        }
        let refused = passwords.turn().await.err().unwrap();
        assert_eq!(refused.kind(), crate::ErrorKind::Unavailable);
        assert!(refused.retry_after().is_some());
        drop((all, waiting));
        assert!(passwords.hash(SecretValue::new("x")).await.is_ok());
    }

    /// What a future gives at once.
    async fn at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
