//! The config of a SecretBackend of type `openbao`.

use serde::Deserialize;
use serde_json::Value;

use super::{
    ApiKeyRef, Faults, Spec, faults::suggestion, field::clip, llm::url_fault,
    secret_backend::is_credential_key,
};

/// How to reach an OpenBao server, and what to show it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenBaoConfig {
    /// Its URL.
    pub url: String,
    /// The namespace, if it is not the root.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The mount of the KV v2 engine.
    #[serde(default = "default_mount")]
    pub mount: String,
    /// The path below the mount; may be empty.
    #[serde(default = "default_prefix")]
    pub path_prefix: String,
    /// How to log in.
    #[serde(default)]
    pub auth: OpenBaoAuth,
    /// Where the token is, for [`OpenBaoAuth::Token`].
    #[serde(default)]
    pub token_ref: Option<ApiKeyRef>,
    /// The mount of the AppRole method.
    #[serde(default = "default_auth_mount")]
    pub auth_mount: String,
    /// The role's id, which is no secret, for [`OpenBaoAuth::AppRole`].
    #[serde(default)]
    pub role_id: Option<String>,
    /// Where the role's id is, if it is not in here.
    #[serde(default)]
    pub role_id_ref: Option<ApiKeyRef>,
    /// Where the secret id is.
    #[serde(default)]
    pub secret_id_ref: Option<ApiKeyRef>,
    /// The certificates of the authorities to trust, in PEM, and no others; else those that the machine trusts.
    #[serde(default)]
    pub ca_cert: Option<String>,
    /// How long a request may take, in milliseconds.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    /// For how long a value that was read may be used, in seconds.
    #[serde(default = "default_cache")]
    pub cache_seconds: u64,
}

/// How to log in to OpenBao.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenBaoAuth {
    /// With a token.
    #[default]
    Token,
    /// With a role's id and a secret id, for a token that is renewed.
    AppRole,
}

fn default_mount() -> String {
    "secret".to_owned()
}

fn default_prefix() -> String {
    "mcpctl".to_owned()
}

fn default_auth_mount() -> String {
    "approle".to_owned()
}

const fn default_timeout() -> u64 {
    5_000
}

const fn default_cache() -> u64 {
    300
}

/// The members of a config that name a key in a Secret.
const REFERENCES: [&str; 3] = ["tokenRef", "roleIdRef", "secretIdRef"];

/// Every member of a config that means something.
const KNOWN: [&str; 13] = [
    "url",
    "namespace",
    "mount",
    "pathPrefix",
    "auth",
    "authMount",
    "roleId",
    "caCert",
    "timeoutMs",
    "cacheSeconds",
    "tokenRef",
    "roleIdRef",
    "secretIdRef",
];

/// What a config says of credentials: each member's name with the `{name, key}` in it.
pub(crate) fn references(spec: &Spec) -> impl Iterator<Item = (&'static str, &Spec)> {
    let config = openbao_config(spec);
    REFERENCES
        .into_iter()
        .filter_map(move |member| Some((member, config?.get(member).and_then(Value::as_object)?)))
}

/// The same, to be changed.
pub(crate) fn reference_mut<'a>(spec: &'a mut Spec, member: &str) -> Option<&'a mut Spec> {
    spec.get_mut("config")?.get_mut(member)?.as_object_mut()
}

/// The config of a SecretBackend's spec, if it is of this type.
pub(crate) fn openbao_config(spec: &Spec) -> Option<&Spec> {
    let is_openbao = spec.get("type").and_then(Value::as_str) == Some("openbao");
    spec.get("config").and_then(Value::as_object).filter(|_| is_openbao)
}

pub(super) fn check(config: &mut Spec, faults: &mut Faults) {
    match config.get("url").and_then(Value::as_str) {
        None => faults.add("config.url", "is required for type openbao"),
        Some(url) => {
            if let Some(fault) = url_fault(url) {
                faults.add("config.url", fault);
            }
        }
    }
    for (key, may_be_empty) in
        [("namespace", true), ("mount", false), ("pathPrefix", true), ("authMount", false)]
    {
        check_path(config, key, may_be_empty, faults);
    }
    for (key, least, most) in [("timeoutMs", 1, 120_000), ("cacheSeconds", 1, 86_400)] {
        let fits = |value: &Value| value.as_u64().is_some_and(|number| (least..=most).contains(&number));
        if config.get(key).is_some_and(|value| !fits(value)) {
            faults.add(&format!("config.{key}"), format!("must be a whole number from {least} to {most}"));
        }
    }
    if let Some(pem) = config.get("caCert")
        && !pem.as_str().is_some_and(|pem| pem.contains("-----BEGIN CERTIFICATE-----"))
    {
        faults.add("config.caCert", "must be the text of one or more certificates in PEM");
    }
    for key in REFERENCES {
        check_reference(config, key, faults);
    }
    check_auth(config, faults);
    // Other settings are kept and mean nothing; one that is nearly the name of a setting is a mistake.
    let unknown = |key: &&String| !KNOWN.contains(&key.as_str()) && !is_credential_key(key);
    for key in config.keys().filter(unknown) {
        let hint = suggestion(key, KNOWN);
        if !hint.is_empty() {
            faults.add(&format!("config.{}", clip(key)), format!("unknown setting{hint}"));
        }
    }
}

fn check_auth(config: &Spec, faults: &mut Faults) {
    let reference = "must be an object `{name, key}` naming a Secret of another backend";
    match config.get("auth").map(Value::as_str) {
        None | Some(Some("token")) => {
            if !config.contains_key("tokenRef") {
                faults.add("config.tokenRef", reference);
            }
        }
        Some(Some("approle")) => {
            let inline = config.get("roleId").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
            if !inline && !config.contains_key("roleIdRef") {
                faults.add("config.roleId", "is required for auth approle, unless there is a `roleIdRef`");
            }
            if !config.contains_key("secretIdRef") {
                faults.add("config.secretIdRef", reference);
            }
        }
        Some(_) => faults.add("config.auth", "must be one of token, approle"),
    }
}

/// A path of OpenBao's: segments that mean themselves in a URL.
fn check_path(config: &Spec, key: &str, may_be_empty: bool, faults: &mut Faults) {
    let Some(value) = config.get(key) else { return };
    let plain = |segment: &str| {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !["", ".", ".."].contains(&segment) && segment.bytes().all(letters)
    };
    let fits = |path: &str| path.len() <= 500 && path.split('/').all(plain);
    let is_fine = value.as_str().is_some_and(|path| if path.is_empty() { may_be_empty } else { fits(path) });
    if !is_fine {
        faults.add(
            &format!("config.{key}"),
            "must be a string of segments of letters, digits, `-`, `_` and `.`, joined by `/`",
        );
    }
}

fn check_reference(config: &mut Spec, key: &str, faults: &mut Faults) {
    let path = format!("config.{key}");
    let Some(value) = config.get_mut(key) else { return };
    let Value::Object(parts) = value else {
        faults.add(&path, "must be an object `{name, key}` naming a Secret of another backend");
        return;
    };
    // Ids are found anew from names.
    parts.shift_remove("id");
    for part in parts.keys().filter(|part| !["name", "key"].contains(&part.as_str())) {
        faults.add(&format!("{path}.{}", clip(part)), "unknown field; expected `name` and `key`");
    }
    for part in ["name", "key"] {
        if parts.get(part).and_then(Value::as_str).is_none_or(str::is_empty) {
            faults.add(&format!("{path}.{part}"), "must be a non-empty string");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults_of(config: Value) -> String {
        let mut faults = Faults::default();
        check(config.as_object().cloned().as_mut().unwrap(), &mut faults);
        faults.into_result().map_or_else(|error| error.message().to_owned(), |()| String::new())
    }

    #[test]
    fn every_fault_names_its_setting() {
        let at = json!({"name": "s", "key": "k"});
        assert_eq!(faults_of(json!({"url": "http://h:1", "tokenRef": at})), "");
        let approle = json!({"url": "http://h", "auth": "approle", "roleId": "r", "secretIdRef": at,
                             "mount": "team/kv", "pathPrefix": "", "more": 1});
        assert_eq!(faults_of(approle), "");
        for (config, named) in [
            (json!({}), ["config.url", "config.tokenRef"].as_slice()),
            (json!({"url": "http://169.254.169.254", "tokenRef": "x"}), &["config.url", "config.tokenRef"]),
            (
                json!({"url": "http://u:p@h", "tokenRef": {"name": "s"}}),
                &["config.url", "config.tokenRef.key"],
            ),
            (json!({"url": "http://h", "auth": "approle"}), &["config.roleId", "config.secretIdRef"]),
            (json!({"url": "http://h", "auth": "ldap"}), &["config.auth"]),
            (
                json!({"url": "http://h", "tokenRef": at, "mount": "a/../b", "pathPrefix": "/x", "authMount": "",
                       "namespace": "a b", "timeoutMs": 0, "cacheSeconds": -1, "caCert": "x", "namepsace": ""}),
                &[
                    "config.mount",
                    "config.pathPrefix",
                    "config.authMount",
                    "config.namespace",
                    "config.timeoutMs",
                    "config.cacheSeconds",
                    "config.caCert",
                    "config.namepsace",
                ],
            ),
        ] {
            let faults = faults_of(config);
            for name in named {
                assert!(faults.contains(&format!("{name}: ")), "{name}: {faults}");
            }
        }
    }
}
