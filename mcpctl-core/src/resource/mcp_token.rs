//! McpTokens: tokens for programs, each with bindings of its own and never more than its owner has.

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Behaviour, Column, Faults, Field, FieldType, Id, KindDef, NameRule, OnDelete, RoleBinding, Spec,
    TokenHash,
    rbac::{binding_text, bindings_field, check_bindings, each},
    text_of,
};

pub(super) static DEF: KindDef = KindDef {
    plural: "mcptokens",
    singular: "mcptoken",
    aliases: &[],
    about: "a token for a program, with roles of its own and never more than its owner has",
    apply_order: 90,
    name_rule: NameRule::Label,
    fields: &[
        Field::description(),
        Field::new(
            "owner",
            "Owner",
            FieldType::Reference { kind: "users", keyed: false, on_delete: OnDelete::Delete },
            "the user it belongs to: who creates it, unless said otherwise",
        )
        .immutable(),
        Field::new(
            "project",
            "Project",
            FieldType::Reference { kind: "projects", keyed: false, on_delete: OnDelete::Unlink },
            "the project that it is for; it gives no right",
        ),
        Field::new(
            "rbac",
            "RBAC",
            FieldType::Choice(&["empty", "clone"]),
            "with which roles it begins: none, or those its owner has at that time; later it says nothing",
        )
        .write_only(),
        bindings_field(),
        Field::new(
            "ttl",
            "TTL",
            FieldType::Text { min: 0, max: 40 },
            "how long it is valid, from its creation on, such as 12h or 30d; empty for as long as its owner is",
        ),
        Field::new(EXPIRES_AT, "Expires", FieldType::Text { min: 0, max: 40 }, "when it stops being valid")
            .read_only(),
        Field::new(
            "lastUsedAt",
            "Last Used",
            FieldType::Text { min: 0, max: 40 },
            "when a request came with it, to about a minute",
        )
        .volatile(),
        Field::new(
            TOKEN_SHA,
            "Token SHA",
            FieldType::Text { min: 0, max: 64 },
            "the SHA-256 of its value: audit events name it so",
        )
        .read_only(),
    ],
    columns: &[
        Column::field("NAME", "name"),
        Column::field("OWNER", "owner"),
        Column::with("BINDINGS", |token| each(token, "roleBindings", binding_text)),
        Column::with("EXPIRES", |token| {
            let expires = token.get(EXPIRES_AT).map(text_of).unwrap_or_default();
            // To the second.
            if expires.is_empty() {
                "never".to_owned()
            } else {
                expires.chars().take(19).chain(['Z']).collect()
            }
        }),
        Column::age("LAST USED", "lastUsedAt"),
        Column::field("ID", "id"),
        Column::field("PROJECT", "project").wide(),
        Column::field("DESCRIPTION", "description").wide(),
        Column::age("AGE", "createdAt").wide(),
    ],
    check,
    behaviour: Behaviour::McpToken,
};

const EXPIRES_AT: &str = "expiresAt";
const TOKEN_SHA: &str = "tokenSha";

/// An McpToken's fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct McpTokenSpec {
    /// Whose it is.
    pub owner: Owner,
    /// Its own roles.
    #[serde(default)]
    pub role_bindings: Vec<RoleBinding>,
    /// How long it is valid from its creation on; empty for ever.
    #[serde(default)]
    pub ttl: String,
    /// The hash of its value, in hexadecimal.
    pub token_sha: String,
}

/// The user a token belongs to.
#[derive(Clone, Debug, Deserialize)]
pub struct Owner {
    /// The user's id: what counts.
    pub id: Id,
}

impl McpTokenSpec {
    /// Where the stored spec has the hash.
    pub const TOKEN_SHA: &'static str = TOKEN_SHA;
    /// Where the stored spec says when it stops being valid.
    pub const EXPIRES_AT: &'static str = EXPIRES_AT;
    /// Where a view says when it was last used.
    pub const LAST_USED_AT: &'static str = "lastUsedAt";

    /// The hash of its value.
    pub fn hash(&self) -> Option<TokenHash> {
        TokenHash::from_hex(&self.token_sha)
    }

    /// When a token made at `created_at` stops being valid; `None` for never.
    ///
    /// What cannot be read has ended already.
    pub fn expires_at(&self, created_at: Timestamp) -> Option<Timestamp> {
        if self.ttl.is_empty() {
            return None;
        }
        let end = lifetime(&self.ttl).and_then(|lifetime| created_at.checked_add(lifetime).ok());
        Some(end.unwrap_or(created_at))
    }
}

/// Reads `30d`, `12h` or `1h 30m`; a day is 24 hours.
fn lifetime(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    let lifetime = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    lifetime.is_positive().then_some(lifetime)
}

fn check(spec: &mut Spec, _stored: Option<&Spec>, faults: &mut Faults) {
    let ttl = spec.get("ttl").and_then(Value::as_str).unwrap_or_default();
    // A thousand years: beyond any use, and far from the end of time.
    let longest = SignedDuration::from_hours(1000 * 366 * 24);
    if !ttl.is_empty() && lifetime(ttl).is_none_or(|lifetime| lifetime > longest) {
        faults.add("ttl", "must be a duration such as 90m, 12h or 30d, or empty");
    }
    check_bindings(spec, faults);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        let hours = |text| lifetime(text).map(|lifetime| lifetime.as_hours());
        assert_eq!(hours("30d"), Some(720));
        assert_eq!(hours("12h"), Some(12));
        assert_eq!(hours("1w 1h"), Some(169));
        for bad in ["", "0s", "-1h", "30", "soon", "1 month", "9999999999999d"] {
            assert_eq!(lifetime(bad), None, "{bad}");
        }
    }
}
