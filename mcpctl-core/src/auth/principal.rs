//! Who makes a request.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{
    random,
    rbac::Grants,
    resource::{Actor, Id, TokenHash},
    secret::SecretValue,
};

/// Who makes a request, and what they may do. Only the registry's authenticator makes one.
#[derive(Clone, Debug)]
pub struct Principal {
    pub(crate) user_id: Option<Id>,
    pub(crate) name: Arc<str>,
    pub(crate) token: Option<TokenHash>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) request_id: Option<Arc<str>>,
}

impl Principal {
    /// The user's id; none for the program that embeds the registry.
    pub fn user_id(&self) -> Option<&Id> {
        self.user_id.as_ref()
    }

    /// The user's e-mail address, or the name of the embedding program.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the principal may do, as of its authentication.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The principal as the audit trail names it.
    pub fn actor(&self) -> Actor {
        Actor {
            user_id: self.user_id.as_ref().map(Id::shared),
            user: Some(self.name.clone()),
            token_sha: self.token,
            request_id: self.request_id.clone(),
        }
    }
}

/// A new token: `prefix` and 256 random bits in URL-safe base64.
pub fn new_token(prefix: &str) -> SecretValue {
    let bits = Zeroizing::new(random::bytes::<32>());
    let mut text = String::with_capacity(prefix.len() + 43);
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(bits.as_slice(), &mut text);
    SecretValue::new(text)
}
