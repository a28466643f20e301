//! Llms: named model endpoints.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::{Host, Url};

use super::{Behaviour, Column, Faults, Field, FieldType, Id, KindDef, NameRule, OnDelete, Spec, text_of};

pub(super) static DEF: KindDef = KindDef {
    plural: "llms",
    singular: "llm",
    aliases: &[],
    about: "a named model endpoint: provider type, model, URL, and a reference to its API key",
    apply_order: 30,
    name_rule: NameRule::Label,
    fields: &[
        Field::new("type", "Type", FieldType::Choice(LlmType::NAMES), "the provider's API")
            .required()
            .immutable(),
        Field::new(
            "model",
            "Model",
            FieldType::Text { min: 1, max: 200 },
            "the model's name at the provider",
        )
        .required(),
        Field::new(
            "tier",
            "Tier",
            FieldType::Choice(&["fast", "heavy"]),
            "what it is for: quick answers or hard ones",
        ),
        Field::new("url", "URL", FieldType::Url, "the provider's base URL; empty for the provider's own"),
        Field::description(),
        Field::new(
            "apiKeyRef",
            "API Key",
            FieldType::Reference { kind: "secrets", keyed: true, on_delete: OnDelete::Unlink },
            "the Secret that holds the provider's key, and the key inside it",
        ),
        Field::new(
            "extraConfig",
            "Extra Config",
            FieldType::Object,
            "settings for this Llm; see the documentation",
        ),
    ],
    columns: &[
        Column::field("NAME", "name"),
        Column::field("TYPE", "type"),
        Column::field("MODEL", "model"),
        Column::field("TIER", "tier"),
        Column::with("KEY", key_column),
        Column::field("URL", "url").wide(),
        Column::field("ID", "id"),
        Column::age("AGE", "createdAt").wide(),
    ],
    check,
    behaviour: Behaviour::Llm,
};

/// A lease is good for a day at most: for as long it may outlive a revocation.
const LEASE_SECONDS: RangeInclusive<i64> = 1..=86_400;

/// An Llm's fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LlmSpec {
    /// The provider's API.
    #[serde(rename = "type")]
    pub ty: LlmType,
    /// The model's name at the provider.
    pub model: String,
    /// The provider's base URL; empty for the provider's own.
    pub url: String,
    /// `fast` or `heavy`.
    pub tier: String,
    /// Where the provider's key is.
    pub api_key_ref: Option<ApiKeyRef>,
    /// Settings; see [`LlmSpec::extra`].
    pub extra_config: Spec,
}

/// A key inside a Secret.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct ApiKeyRef {
    /// The Secret's id.
    pub id: Id,
    /// The Secret's name.
    pub name: String,
    /// The key inside it.
    pub key: String,
}

/// The provider's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LlmType {
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI's API.
    #[serde(rename = "openai")]
    OpenAi,
    /// DeepSeek's API, in OpenAI's format.
    #[serde(rename = "deepseek")]
    DeepSeek,
    /// A vLLM server, in OpenAI's format.
    Vllm,
    /// An Ollama server, in OpenAI's format.
    Ollama,
    /// The `gemini` program.
    GeminiCli,
}

impl LlmType {
    /// The names, as written.
    pub const NAMES: &'static [&'static str] =
        &["anthropic", "openai", "deepseek", "vllm", "ollama", "gemini-cli"];

    /// The name, as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::DeepSeek => "deepseek",
            Self::Vllm => "vllm",
            Self::Ollama => "ollama",
            Self::GeminiCli => "gemini-cli",
        }
    }

    /// The base URL when an Llm has none of its own.
    pub const fn default_url(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::OpenAi => Some("https://api.openai.com"),
            Self::DeepSeek => Some("https://api.deepseek.com"),
            Self::Vllm | Self::Ollama | Self::GeminiCli => None,
        }
    }
}

impl LlmSpec {
    /// The setting of this name in `extraConfig`.
    pub fn extra(&self, name: &str) -> Option<&Value> {
        self.extra_config.get(name)
    }

    /// Calls at once, when this Llm has a limit of its own.
    pub fn max_in_flight(&self) -> Option<usize> {
        let most = self.extra("maxInFlight")?.as_u64()?;
        Some(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// For how many seconds a lease on this Llm is good, when it hands out leases.
    pub fn failover_lease_seconds(&self) -> Option<i64> {
        self.extra("failoverLeaseSeconds")?.as_i64().filter(|seconds| LEASE_SECONDS.contains(seconds))
    }
}

fn check(spec: &mut Spec, _stored: Option<&Spec>, faults: &mut Faults) {
    let ty = spec.get("type").map(text_of).unwrap_or_default();
    let url_missing = spec.get("url").is_none_or(|url| text_of(url).is_empty());
    if url_missing && ["vllm", "ollama"].contains(&ty.as_str()) {
        faults.add("url", format!("is required for type {ty}, which has no default"));
    }
    if let Some(Value::Object(extra)) = spec.get("extraConfig") {
        for (key, value) in extra {
            if let Some(fault) = extra_fault(key, value) {
                faults.add(&format!("extraConfig.{key}"), fault);
            }
        }
    }
}

/// The keys of `extraConfig` that mean something to us; others are kept and passed to no one.
fn extra_fault(key: &str, value: &Value) -> Option<&'static str> {
    let texts = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
    match key {
        "headers" => headers_fault(value),
        "timeoutMs" | "connectTimeoutMs" => {
            let fits = value.as_u64().is_some_and(|ms| (1..=86_400_000).contains(&ms));
            (!fits).then_some("must be a whole number of milliseconds from 1 to 86400000")
        }
        "maxTokens" | "maxInFlight" => {
            value.as_u64().is_none_or(|n| n == 0).then_some("must be a positive whole number")
        }
        "failoverLeaseSeconds" => {
            let fits = value.as_i64().is_some_and(|seconds| LEASE_SECONDS.contains(&seconds));
            (!fits).then_some("must be a whole number of seconds from 1 to 86400")
        }
        "anthropicVersion" => {
            let fits = value
                .as_str()
                .is_some_and(|text| http::HeaderValue::from_str(text).is_ok() && !text.is_empty());
            (!fits).then_some("must be a version such as `2023-06-01`")
        }
        "allowedModels" => {
            (!texts(value)).then_some("must be a list of model names; a trailing * matches any ending")
        }
        "defaults" => (!value.is_object()).then_some("must be an object of request fields"),
        "strict" => (!value.is_boolean()).then_some("must be true or false"),
        _ => None,
    }
}

fn headers_fault(value: &Value) -> Option<&'static str> {
    const OURS: [&str; 7] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "content-type",
        "accept-encoding",
        "expect",
    ];
    let Some(headers) = value.as_object() else {
        return Some("must be an object of header names and values");
    };
    for (name, value) in headers {
        let Ok(name) = http::HeaderName::from_bytes(name.as_bytes()) else {
            return Some("has an invalid header name");
        };
        if OURS.contains(&name.as_str()) {
            return Some("must not set host, connection, content or expect headers");
        }
        if value.as_str().is_none_or(|value| http::HeaderValue::from_str(value).is_err()) {
            return Some("has an invalid header value");
        }
    }
    None
}

/// What is wrong with a provider's or backend's URL, or `None`.
pub(super) fn url_fault(text: &str) -> Option<&'static str> {
    const FORM: &str = "must be an absolute http or https URL";
    let Ok(url) = Url::parse(text) else { return Some(FORM) };
    if !["http", "https"].contains(&url.scheme()) || text.len() > 2000 {
        return Some(FORM);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("must not hold user-info; put the credential into a Secret");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Some("must have no query and no fragment");
    }
    match url.host() {
        None => Some(FORM),
        Some(Host::Ipv4(ip)) if is_metadata_address(ip.into()) => Some(METADATA),
        Some(Host::Ipv6(ip)) if is_metadata_address(ip.into()) => Some(METADATA),
        Some(Host::Domain(name)) if name.trim_end_matches('.') == "metadata.google.internal" => {
            Some(METADATA)
        }
        Some(_) => None,
    }
}

const METADATA: &str = "must not be a link-local or cloud metadata address";

/// Whether an address is link-local, unspecified, multicast or a cloud's metadata service: no provider lives
/// there, and whoever can make a server call it can read what the cloud tells that machine alone.
pub(crate) fn is_metadata_address(ip: IpAddr) -> bool {
    const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const AMAZON_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip {
        IpAddr::V4(ip) => {
            ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip == ALIBABA
        }
        IpAddr::V6(ip) => {
            let [.., a, b] = ip.segments();
            let [a, b] = [a.to_be_bytes(), b.to_be_bytes()];
            let embedded = Ipv4Addr::new(a[0], a[1], b[0], b[1]);
            // IPv4 inside IPv6: mapped, compatible, NAT64 and 6to4 all reach the embedded address.
            let carries = match ip.segments() {
                [0, 0, 0, 0, 0, 0 | 0xffff, ..] => !ip.is_loopback() && !ip.is_unspecified(),
                [0x64, 0xff9b, 0, 0, 0, 0, ..] => true,
                _ => false,
            };
            let six_to_four = match ip.segments() {
                [0x2002, high, low, ..] => {
                    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                    is_metadata_address(Ipv4Addr::new(a, b, c, d).into())
                }
                _ => false,
            };
            ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip == AMAZON_V6
                || six_to_four
                || (carries && is_metadata_address(embedded.into()))
        }
    }
}

fn key_column(llm: &Spec) -> String {
    match llm.get("apiKeyRef") {
        Some(Value::Object(parts)) => {
            let part = |name: &str| parts.get(name).map(text_of).unwrap_or_default();
            format!("secret://{}/{}", part("name"), part("key"))
        }
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
#[path = "llm_tests.rs"]
mod tests;
