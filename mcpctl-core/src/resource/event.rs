//! Audit events: what happened, who did it, and how it ended. Never a secret value.

use std::{
    borrow::Cow,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    TokenHash, now,
    tidy::{tidy, tidy_shared},
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// A UUID of version 7: later events of one process sort later.
    pub id: String,
    /// When it ended, to the microsecond.
    pub at: Timestamp,
    /// What happened; its `kind` says which sort.
    #[serde(flatten)]
    pub detail: EventDetail,
    /// Who did it.
    #[serde(flatten)]
    pub actor: Actor,
}

/// Who did something, and in which request. Texts are shared with what is known of them: a clone copies none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// The user's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Arc<str>>,
    /// The user's e-mail address at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// The SHA-256 of the token; written in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_sha: Option<TokenHash>,
    /// The name of the McpToken, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Arc<str>>,
    /// The e-mail address of who acted for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonator: Option<Arc<str>>,
    /// The request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Arc<str>>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventDetail {
    /// A call of an Llm.
    LlmInferenceCall(InferenceCall),
    /// A resource was created, changed or deleted.
    ResourceChange(Change),
    /// Somebody logged in, or failed to.
    Login(Login),
    /// A known principal was refused.
    Denied(Denial),
    /// Secret values were shown.
    SecretReveal(Reveal),
    /// Stored values were encrypted anew, under another master key.
    Rekey(Rekey),
    /// A Secret's values were moved to another backend.
    Migration(Migration),
    /// Somebody acted for another user: the event's `impersonator` for its `user`.
    Impersonation(Impersonation),
    /// Everything was read for a backup.
    Backup(Backup),
}

/// A call of an Llm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceCall {
    /// The Llm's name.
    pub llm_name: Arc<str>,
    /// The Llm's id.
    pub llm_id: Arc<str>,
    /// The model asked of the provider.
    pub model: Arc<str>,
    /// The provider's type.
    #[serde(rename = "type")]
    pub ty: Cow<'static, str>,
    /// The API that the caller spoke: `chat`, `messages`, `responses` and so on. Events of old have none.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub api: Cow<'static, str>,
    /// Whether a stream was asked for.
    pub streaming: bool,
    /// From the request's arrival to the answer's end, in milliseconds.
    pub duration_ms: u64,
    /// The HTTP status of the answer; 499 when the caller went away.
    pub status: u16,
    /// From the request's arrival to the first byte of the answer's body, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<u64>,
    /// Tokens of the prompt, cached ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Tokens of the prompt that came from the provider's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// Why the answer ended, in OpenAI's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A resource was created, changed or deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `create`, `edit` or `delete`.
    pub action: String,
    /// The plural of the kind.
    pub resource: String,
    /// The resource's name.
    pub name: String,
    /// The resource's id.
    pub resource_id: String,
    /// Its version after the change.
    pub version: i64,
    /// The names of the fields that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// Somebody logged in, or failed to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The e-mail address that was given.
    pub email: String,
    /// `ok`, `refused` or `limited`.
    pub result: String,
    /// How many attempts this one event tells of, where they are too many for an event each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// A known principal was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// The permission that was missing.
    pub permission: String,
}

/// Secret values were shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reveal {
    /// The Secret's name.
    pub name: String,
    /// The Secret's id.
    pub resource_id: String,
}

/// Stored values were encrypted anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rekey {
    /// The id of the master key that they are under now.
    pub key: String,
    /// How many values.
    pub values: u64,
}

/// A Secret's values were moved to another backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// The Secret's name.
    pub name: String,
    /// The Secret's id.
    pub resource_id: String,
    /// The name of the backend that held them.
    pub from: String,
    /// The name of the backend that holds them now.
    pub to: String,
    /// The Secret's version after it.
    pub version: i64,
}

/// Everything was read for a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// How many resources.
    pub resources: u64,
    /// Whether with the values of Secrets.
    pub with_values: bool,
}

/// Somebody acted for another user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Impersonation {
    /// The method and the path of the request.
    pub request: String,
}

/// The id of an event that ends at `at`: a UUID of version 7. Where its format wants random bits, it has a count and
/// then bits that are random for this process alone: an id need not be hard to guess, and asking the system for
/// random bits would cost each call more than the rest of its event.
fn new_id(at: Timestamp) -> String {
    static PROCESS: LazyLock<[u8; 6]> = LazyLock::new(crate::random::bytes);
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let [p, q, r, s, t, u] = *PROCESS;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let byte = |shift: u32| {
        let [.., lowest] = (count >> shift).to_be_bytes();
        lowest
    };
    // The version takes the first four bits, and the variant two of the third byte: 26 are the count's.
    let bytes = [byte(22) & 0x0f, byte(14), byte(8) & 0x3f, byte(0), p, q, r, s, t, u];
    let millis = u64::try_from(at.as_millisecond()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid().to_string()
}

/// What no event has as its id, and what sorts before the ids of all events that end at `at` or later and after those
/// of all that ended in a millisecond before.
pub(crate) fn first_id_at(at: Timestamp) -> String {
    // The greatest time that fits is some nine thousand years away.
    let millis = u128::try_from(at.as_millisecond()).unwrap_or_default().min((1 << 48) - 1);
    uuid::Uuid::from_u128(millis << 80).to_string()
}

impl InferenceCall {
    /// The `kind` of its events.
    pub const KIND: &'static str = "llm_inference_call";
}

impl AuditEvent {
    /// An event that ends now. Each text in it becomes one line: what could steer a terminal or look like another
    /// row is escaped, and what is long is cut, with a mark.
    pub fn new(mut actor: Actor, mut detail: EventDetail) -> Self {
        match &mut detail {
            EventDetail::LlmInferenceCall(call) => {
                tidy_shared(&mut call.model);
                call.error.iter_mut().chain(&mut call.finish_reason).for_each(tidy);
            }
            EventDetail::ResourceChange(change) => {
                tidy(&mut change.name);
                change.fields.iter_mut().for_each(tidy);
            }
            EventDetail::Login(login) => tidy(&mut login.email),
            EventDetail::Denied(denial) => tidy(&mut denial.permission),
            EventDetail::SecretReveal(reveal) => tidy(&mut reveal.name),
            EventDetail::Migration(moved) => {
                [&mut moved.name, &mut moved.from, &mut moved.to].into_iter().for_each(tidy);
            }
            EventDetail::Impersonation(impersonation) => tidy(&mut impersonation.request),
            EventDetail::Rekey(rekey) => tidy(&mut rekey.key),
            EventDetail::Backup(_) => {}
        }
        let Actor { user, token, impersonator, request_id, .. } = &mut actor;
        [user, token, impersonator, request_id].into_iter().flatten().for_each(tidy_shared);
        let at = now();
        Self { id: new_id(at), at, detail, actor }
    }

    /// The `kind`, as written.
    pub fn kind(&self) -> &'static str {
        match &self.detail {
            EventDetail::LlmInferenceCall(_) => InferenceCall::KIND,
            EventDetail::ResourceChange(_) => "resource_change",
            EventDetail::Login(_) => "login",
            EventDetail::Denied(_) => "denied",
            EventDetail::SecretReveal(_) => "secret_reveal",
            EventDetail::Migration(_) => "migration",
            EventDetail::Impersonation(_) => "impersonation",
            EventDetail::Rekey(_) => "rekey",
            EventDetail::Backup(_) => "backup",
        }
    }

    /// The name of the Llm the event is about.
    pub fn llm(&self) -> Option<&str> {
        match &self.detail {
            EventDetail::LlmInferenceCall(call) => Some(&call.llm_name),
            EventDetail::ResourceChange(change) if change.resource == "llms" => Some(&change.name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_of_version_7_in_the_order_they_were_made() {
        let at = now();
        let ids: Vec<String> = (0..10_000).map(|_| new_id(at)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        for id in &ids {
            let id = uuid::Uuid::parse_str(id).unwrap();
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
            assert_eq!(seconds * 1000 + u64::from(nanos / 1_000_000), at.as_millisecond() as u64);
        }
    }
    #[test]
    fn first_ids_part_events_by_their_time() {
        let at: Timestamp = "2026-01-31T12:00:00.123Z".parse().unwrap();
        let before = at.checked_sub(jiff::SignedDuration::from_micros(1)).unwrap();
        let first = first_id_at(at);
        assert!(new_id(before) < first && first < new_id(at));
        assert_eq!(first.len(), new_id(at).len());
        assert!(first_id_at(Timestamp::MIN) < new_id(at) && new_id(at) < first_id_at(Timestamp::MAX));
    }

    #[test]
    fn every_text_of_an_event_is_one_short_line() {
        let hostile = || format!("a\n{{}}\u{1b}[2J\u{202e}{}", "y".repeat(1 << 20));
        let actor =
            || Actor { user: Some(hostile().into()), request_id: Some(hostile().into()), ..Actor::default() };
        let details = [
            EventDetail::LlmInferenceCall(InferenceCall {
                model: hostile().into(),
                finish_reason: Some(hostile()),
                error: Some(hostile()),
                ..InferenceCall::default()
            }),
            EventDetail::ResourceChange(Change {
                action: "edit".into(),
                resource: "llms".into(),
                name: hostile(),
                resource_id: String::new(),
                version: 1,
                fields: vec![hostile()],
            }),
            EventDetail::Login(Login { email: hostile(), ..Login::default() }),
            EventDetail::Denied(Denial { permission: hostile() }),
            EventDetail::SecretReveal(Reveal { name: hostile(), resource_id: String::new() }),
            EventDetail::Migration(Migration {
                name: hostile(),
                resource_id: String::new(),
                from: hostile(),
                to: hostile(),
                version: 1,
            }),
        ];
        for detail in details {
            let row = serde_json::to_string(&AuditEvent::new(actor(), detail)).unwrap();
            assert!(row.len() < 8192 && !row.contains("\\u00") && !row.contains('\u{202e}'), "{row}");
            assert!(row.contains("… (1048587 bytes)"), "{row}");
        }
    }
}
