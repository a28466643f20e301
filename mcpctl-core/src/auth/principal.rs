//! Who makes a request.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::{
    random,
    rbac::Rights,
    resource::{Actor, Id, TokenHash},
    secret::SecretValue,
};

/// Who makes a request, and what they may do. Only the registry's authenticator makes one.
#[derive(Clone, Debug)]
pub struct Principal {
    pub(crate) user_id: Option<Id>,
    pub(crate) name: Arc<str>,
    pub(crate) token: Option<TokenHash>,
    /// The McpToken it came with: its name, and when it ends.
    pub(crate) api_token: Option<ApiToken>,
    /// The e-mail address of who acts for this user.
    pub(crate) impersonator: Option<Arc<str>>,
    pub(crate) rights: Rights,
    pub(crate) request_id: Option<Arc<str>>,
}

/// What a principal's McpToken means for it.
#[derive(Clone, Debug)]
pub(crate) struct ApiToken {
    pub(crate) name: Arc<str>,
    pub(crate) expires_at: Option<Timestamp>,
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
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// The name of the McpToken that the principal came with; `None` for a user's own session.
    pub fn api_token(&self) -> Option<&str> {
        self.api_token.as_ref().map(|token| &*token.name)
    }

    /// The e-mail address of who acts for this user; `None` when the user acts.
    pub fn impersonator(&self) -> Option<&str> {
        self.impersonator.as_deref()
    }

    /// Whether this is the user in person: not a token of theirs, and nobody who acts for them.
    pub(crate) fn is_in_person(&self, user: &Id) -> bool {
        self.user_id.as_ref() == Some(user) && self.api_token.is_none() && self.impersonator.is_none()
    }

    /// The principal as the audit trail names it.
    pub fn actor(&self) -> Actor {
        Actor {
            user_id: self.user_id.as_ref().map(Id::shared),
            user: Some(self.name.clone()),
            token_sha: self.token,
            token: self.api_token.as_ref().map(|token| token.name.clone()),
            impersonator: self.impersonator.clone(),
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
