//! Leases: short-lived proofs that somebody was allowed to see an Llm a moment ago.
//!
//! The server signs one, the client keeps it, and while the server cannot be asked, it says what the server would have
//! said then. It is a JWS in its compact form (RFC 7515), signed with Ed25519 (RFC 8037), with one header and no
//! choices: what the text says of algorithms is compared, never obeyed. Pure: no I/O and no clock.
//!
//! [`PublicKeys::verify`] tells that a text is a lease of the server's. Whom it is for, for which Llm and until when
//! is for the caller to judge, from its [`Claims`].

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The response header that carries a lease.
pub const HEADER: &str = "x-mcpctl-lease";
/// The longest text that can be a lease, in bytes.
pub const MAX_LEN: usize = 4096;

const ALGORITHM: &str = "EdDSA";
const TYPE: &str = "lease+jwt";
/// More keys than any server has at once.
const MAX_KEYS: usize = 64;

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whose it is: the id of the user, or of the McpToken.
    pub sub: String,
    /// The Llm's name.
    pub llm: String,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// Which token it goes with: the token's [`fingerprint`](token_fingerprint).
    pub cnf: String,
}

/// What a token is known by in a lease: its SHA-256, in URL-safe base64.
pub fn token_fingerprint(token: &str) -> String {
    fingerprint_of_hash(&Sha256::digest(token.as_bytes()).into())
}

/// The same, for whoever holds no more than the token's SHA-256.
pub fn fingerprint_of_hash(sha256: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(sha256)
}

/// Why a text is no lease of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Longer than [`MAX_LEN`].
    TooLong,
    /// Not three parts of base64, or not the JSON that belongs there.
    Malformed,
    /// A header of something else: another algorithm, another type.
    WrongKind,
    /// Signed by a key that is not known (any more).
    UnknownKey,
    /// The signature does not fit.
    Forged,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the lease is too long",
            Self::Malformed => "the lease is malformed",
            Self::WrongKind => "the text is signed, and is no lease",
            Self::UnknownKey => "the lease is signed by a key that is not known",
            Self::Forged => "the lease's signature does not fit",
        })
    }
}

impl std::error::Error for Fault {}

/// What a lease says of itself. Anything else in a header (`crit`, `jwk`, `x5u`, …) could only change how it is to be
/// read, so there is nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// The key that signs leases.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    kid: String,
    /// The first part of every lease, and the dot behind it.
    head: String,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// Internal, when there are no random numbers.
    pub fn generate() -> Result<Self> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let made = made.map_err(|_| Error::internal("no random numbers for a signing key"))?;
        Self::from_pkcs8(made.as_ref())
    }

    /// The key that [`pkcs8`](Self::pkcs8) gave.
    ///
    /// # Errors
    ///
    /// Internal, when it is something else.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(bytes);
        let pair = pair.map_err(|rejected| Error::internal(format!("no Ed25519 signing key: {rejected}")))?;
        let kid = thumbprint(&URL_SAFE_NO_PAD.encode(pair.public_key()));
        let header = json!({"alg": ALGORITHM, "typ": TYPE, "kid": kid}).to_string();
        let head = format!("{}.", URL_SAFE_NO_PAD.encode(header));
        Ok(Self { pair, pkcs8: Zeroizing::new(bytes.to_vec()), kid, head })
    }

    /// The key, private part included, as PKCS #8 (RFC 8410). Only for keeping it sealed.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key's id: the thumbprint of its public part (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What verifies this key's leases.
    pub fn public(&self) -> PublicKeys {
        let bytes = self.pair.public_key().as_ref();
        let keys = bytes.try_into().map(|bytes| PublicKey { kid: self.kid.clone(), bytes });
        PublicKeys(keys.into_iter().collect())
    }

    /// A lease.
    pub fn sign(&self, claims: &Claims) -> String {
        let Claims { sub, llm, iat, exp, cnf } = claims;
        let claims = json!({"sub": sub, "llm": llm, "iat": iat, "exp": exp, "cnf": cnf}).to_string();
        let mut text = String::with_capacity(self.head.len() + claims.len() * 4 / 3 + 92);
        text.push_str(&self.head);
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        let signature = self.pair.sign(text.as_bytes());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        text
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The keys that a server signs leases with, as far as everybody may know them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicKeys(Vec<PublicKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct PublicKey {
    kid: String,
    bytes: [u8; 32],
}

impl PublicKeys {
    /// The keys of a JWK Set (RFC 7517). Keys of other kinds are passed over, as that says.
    ///
    /// # Errors
    ///
    /// Invalid, when it is no JWK Set, or a key of ours in it is damaged.
    pub fn from_jwks(set: &Value) -> Result<Self> {
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or_else(|| Error::invalid("keys: a list of public keys is missing"))?;
        if keys.len() > MAX_KEYS {
            return Err(Error::invalid(format!("keys: has more than {MAX_KEYS} public keys")));
        }
        let mut known: Vec<PublicKey> = Vec::new();
        for key in keys {
            let text = |name: &str| key.get(name).and_then(Value::as_str);
            let fits = |name: &str, wanted: &str| key.get(name).is_none_or(|value| value == wanted);
            if text("kty") != Some("OKP") || text("crv") != Some("Ed25519") {
                continue;
            }
            if !fits("alg", ALGORITHM) || !fits("use", "sig") {
                continue;
            }
            let x = text("x").unwrap_or_default();
            let bytes = URL_SAFE_NO_PAD.decode(x).ok().and_then(|bytes| bytes.try_into().ok());
            let bytes = bytes.ok_or_else(|| Error::invalid("keys: `x` of a public key is no Ed25519 key"))?;
            // Its id follows from the key: so no key can pass for another.
            let kid = thumbprint(x);
            if text("kid") != Some(&kid) {
                return Err(Error::invalid("keys: `kid` of a public key is not its thumbprint"));
            }
            if known.iter().all(|known| known.kid != kid) {
                known.push(PublicKey { kid, bytes });
            }
        }
        Ok(Self(known))
    }

    /// The keys as a JWK Set (RFC 7517).
    pub fn to_jwks(&self) -> Value {
        let jwk = |key: &PublicKey| {
            json!({
                "kty": "OKP",
                "crv": "Ed25519",
                "x": URL_SAFE_NO_PAD.encode(key.bytes),
                "kid": key.kid,
                "alg": ALGORITHM,
                "use": "sig",
            })
        };
        json!({"keys": self.0.iter().map(jwk).collect::<Vec<_>>()})
    }

    /// What a lease says, when it is one of the server's. Neither its end nor whom and what it is for is judged here.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn verify(&self, lease: &str) -> Result<Claims, Fault> {
        if lease.len() > MAX_LEN {
            return Err(Fault::TooLong);
        }
        let (signed, signature) = lease.rsplit_once('.').ok_or(Fault::Malformed)?;
        // A further dot would be inside one of the two, where base64 has none.
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Malformed);
        let (header, claims, signature) = (decoded(header)?, decoded(claims)?, decoded(signature)?);
        let header: Header = match serde_json::from_slice(&header) {
            Ok(header) => header,
            // JSON, but with other fields: a token of another kind.
            Err(fault) if fault.is_data() => return Err(Fault::WrongKind),
            Err(_) => return Err(Fault::Malformed),
        };
        if header.alg != ALGORITHM || header.typ != TYPE {
            return Err(Fault::WrongKind);
        }
        let key = self.0.iter().find(|key| key.kid == header.kid).ok_or(Fault::UnknownKey)?;
        let key = UnparsedPublicKey::new(&ED25519, key.bytes);
        key.verify(signed.as_bytes(), &signature).map_err(|_| Fault::Forged)?;
        serde_json::from_slice(&claims).map_err(|_| Fault::Malformed)
    }
}

/// The thumbprint of an Ed25519 key (RFC 7638, RFC 8037 appendix A.3): of exactly this text.
fn thumbprint(x: &str) -> String {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
