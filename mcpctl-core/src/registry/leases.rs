//! Leases: who gets one, for which Llm and until when; and the key that signs them.
//!
//! All servers on one store share the key. It is kept as secret values are, under the master key, and is in memory
//! from the start on: handing out a lease asks no store, and takes no lock.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use jiff::Timestamp;

use super::{LlmEntry, Registry, open::POLL_TOLERANCE, rekey::Rekeyed};
use crate::{
    auth::Principal,
    error::{Error, ErrorKind, Result},
    lease::{Claims, PublicKeys, SigningKey, fingerprint_of_hash},
    rbac::Action,
    resource::{Id, LlmSpec, Object, TokenHash, kinds},
    secret::Keyring,
    store::{Condition, Outcome, Storage, Txn, Write},
};

/// What the key that signs leases is kept under.
const SIGNING_KEY: &str = "lease-signing-key";
/// It never changes: only how it is wrapped does.
const VERSION: i64 = 1;

/// Leases of one Llm that are remembered. Two tokens that meet in one place make each other's lease be signed anew,
/// and nothing worse.
const REMEMBERED: usize = 1024;

/// The leases of an Llm that hands them out.
pub(super) struct Leases {
    /// For how long each is good, in seconds.
    lifetime: i64,
    /// Those handed out last, each in the place that its token's hash says. Made with the first.
    recent: OnceLock<Box<[ArcSwapOption<Recent>]>>,
}

struct Recent {
    token: TokenHash,
    iat: i64,
    exp: i64,
    text: HeaderValue,
}

impl Leases {
    /// Those of an Llm with this spec; `None` when it hands out none.
    pub(super) fn of(spec: &LlmSpec) -> Option<Self> {
        Some(Self { lifetime: spec.failover_lease_seconds()?, recent: OnceLock::new() })
    }

    fn place(&self, token: TokenHash) -> Option<&ArcSwapOption<Recent>> {
        let places = self.recent.get_or_init(|| (0..REMEMBERED).map(|_| ArcSwapOption::empty()).collect());
        let [first, second, ..] = token.bytes();
        places.get(usize::from(u16::from_le_bytes([*first, *second])) % REMEMBERED)
    }

    /// The lease that this token got last, if more than half of its life is left, and the token lives as long.
    fn recent(&self, token: TokenHash, now: i64, token_ends: i64) -> Option<HeaderValue> {
        let recent = self.place(token)?.load();
        let recent = recent.as_ref().filter(|recent| recent.token == token && recent.exp <= token_ends)?;
        let is_young = recent.iat <= now && recent.exp - now > now - recent.iat;
        is_young.then(|| recent.text.clone())
    }
}

impl Registry {
    /// A lease for `who` on an Llm that it was just served by: for those who act for themselves, with a token that is
    /// still good, and may view the Llm. `None` for everybody else, and when the Llm hands out none.
    pub fn lease(&self, who: &Principal, llm: &LlmEntry) -> Option<HeaderValue> {
        // Others pay no more than this.
        llm.leases.as_ref()?;
        self.lease_now(who, &llm.id)
    }

    /// The same for who was just shown a resource.
    pub fn lease_on_view(&self, who: &Principal, shown: &Object) -> Option<HeaderValue> {
        if shown.kind != kinds::LLMS {
            return None;
        }
        self.lease_now(who, &shown.id)
    }

    /// Decides on what is known now: a call may have begun minutes ago.
    fn lease_now(&self, who: &Principal, llm: &Id) -> Option<HeaderValue> {
        let token = who.token.filter(|_| who.impersonator.is_none())?;
        let key = self.inner.signing_key.as_deref()?;
        let (snapshot, now) = (self.snapshot(), Timestamp::now());
        let llm = snapshot.llm_of(llm)?;
        let leases = llm.leases.as_ref()?;
        let bearer = snapshot.bearer(token, now)?;
        if !bearer.rights.allow_on(Action::View, kinds::LLMS, &llm.name, Some(&llm.id)) {
            return None;
        }
        let (sub, ends) = match bearer.token {
            Some(entry) => (&entry.id, entry.expires_at),
            None => (&bearer.user.id, Some(snapshot.session(token)?.expires_at)),
        };
        let (now, ends) = (now.as_second(), ends.map_or(i64::MAX, Timestamp::as_second));
        if let Some(recent) = leases.recent(token, now, ends) {
            return Some(recent);
        }
        // While the store is away, nobody tells us of revocations.
        if self.staleness() > POLL_TOLERANCE {
            return None;
        }
        let (iat, exp) = (now, now.saturating_add(leases.lifetime).min(ends));
        if exp <= iat {
            return None;
        }
        let claims = Claims {
            sub: sub.as_str().to_owned(),
            llm: llm.name.clone(),
            iat,
            exp,
            cnf: fingerprint_of_hash(token.bytes()),
        };
        let mut text = HeaderValue::try_from(key.sign(&claims)).ok()?;
        text.set_sensitive(true);
        let recent = Recent { token, iat, exp, text: text.clone() };
        leases.place(token)?.store(Some(Arc::new(recent)));
        Some(text)
    }

    /// The keys that verify leases: for everybody.
    ///
    /// # Errors
    ///
    /// Sealed; secret unavailable, when the key that is stored cannot be read.
    pub fn lease_keys(&self) -> Result<PublicKeys> {
        match &self.inner.signing_key {
            Some(key) => Ok(key.public()),
            None if self.is_sealed() => {
                Err(Error::new(ErrorKind::Sealed, "the master key does not fit the stored values"))
            }
            None => Err(Error::new(ErrorKind::SecretUnavailable, "the key that signs leases cannot be read")),
        }
    }

    /// Encrypts the key anew, under the master key that writes.
    pub(super) async fn rewrap_signing_key(&self, outcome: &mut Rekeyed) -> Result<()> {
        let (store, keyring) = (&self.inner.store, self.keyring());
        let Some(sealed) = store.value(SIGNING_KEY).await? else { return Ok(()) };
        let under = Keyring::wrapped_by(&sealed);
        if under.as_deref() == Some(keyring.write_id()) {
            return Ok(());
        }
        match keyring.open(SIGNING_KEY, VERSION, &sealed) {
            Ok(opened) => {
                // What others write meanwhile is the same key.
                let value = keyring.seal(SIGNING_KEY, VERSION, &opened)?;
                let writes = vec![Write::PutValue { key: SIGNING_KEY.to_owned(), value }];
                store.commit(Txn { writes, ..Txn::default() }).await.map(drop)
            }
            Err(error) => {
                tracing::error!(error = error.chain(), "the key that signs leases is not encrypted anew");
                *outcome.left.entry(under.unwrap_or_else(|| "?".to_owned())).or_default() += 1;
                Ok(())
            }
        }
    }
}

/// The key that is stored, which is made where there is none; `None`, and no leases, when it cannot be read.
pub(super) async fn signing_key(store: &dyn Storage, keyring: &Keyring) -> Result<Option<Arc<SigningKey>>> {
    let sealed = match store.value(SIGNING_KEY).await? {
        Some(sealed) => sealed,
        None => {
            let value = keyring.seal(SIGNING_KEY, VERSION, SigningKey::generate()?.pkcs8())?;
            let txn = Txn {
                // Another server may be making one too: the first one counts for both.
                conditions: vec![Condition::ValueAbsent { key: SIGNING_KEY.to_owned() }],
                writes: vec![Write::PutValue { key: SIGNING_KEY.to_owned(), value: value.clone() }],
                events: Vec::new(),
            };
            match store.commit(txn).await? {
                Outcome::Committed(_) => value,
                Outcome::Refused(_) => store.value(SIGNING_KEY).await?.unwrap_or_default(),
            }
        }
    };
    let opened = keyring.open(SIGNING_KEY, VERSION, &sealed);
    match opened.and_then(|opened| SigningKey::from_pkcs8(&opened)) {
        Ok(key) => Ok(Some(Arc::new(key))),
        Err(error) => {
            tracing::error!(error = error.chain(), "no leases: the key that signs them cannot be read");
            Ok(None)
        }
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
