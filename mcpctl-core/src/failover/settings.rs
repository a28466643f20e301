//! A local provider, as a configuration file describes it.

use std::{ffi::OsString, fmt, path::PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{
    client::parse_base_url,
    error::{Error, Result},
    resource::{Faults, LlmType, NameRule},
    secret::SecretValue,
};

/// One entry of `providers` in a configuration file. `Debug` does not show its key.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderSettings {
    /// Its name, under the rules of an Llm's.
    pub name: String,
    /// The API it speaks, and whether it is started on demand.
    #[serde(rename = "type")]
    pub ty: ProviderType,
    /// The model to ask it for, whatever the caller asked for.
    pub model: String,
    /// Its base URL. One that is started on demand has none: it listens on this machine.
    #[serde(default)]
    pub url: Option<String>,
    /// Its key, when it wants one.
    #[serde(default, deserialize_with = "secret")]
    pub api_key: Option<SecretValue>,
    /// `fast` or `heavy`.
    #[serde(default)]
    pub tier: Option<String>,
    /// The Llms of the server that it stands in for.
    #[serde(default)]
    pub failover_for: Vec<String>,
    /// Where `vllm serve` listens.
    #[serde(default)]
    pub port: Option<u16>,
    /// The Python environment that has vLLM.
    #[serde(default)]
    pub venv_path: Option<String>,
    /// The share of the GPU's memory that vLLM takes.
    #[serde(default)]
    pub gpu_memory_utilization: Option<f64>,
    /// The longest context, in tokens.
    #[serde(default)]
    pub max_model_len: Option<u64>,
    /// Further arguments of `vllm serve`.
    #[serde(default)]
    pub extra_args: Vec<String>,
    /// After how long without a request it is stopped.
    #[serde(default)]
    pub idle_timeout_minutes: Option<f64>,
    /// Where it is started, when it is.
    #[serde(skip)]
    pub surroundings: Surroundings,
}

/// What a provider that is started on demand finds around it. A library reads no environment and knows no home
/// folder: the program around it says what there is. `Debug` does not show the environment, which holds credentials.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The environment variables of the program, of which a provider gets those that it needs.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it is written down what runs, so that what a killed program leaves behind is found by the next. Only this
    /// user should be able to write there.
    pub folder: Option<PathBuf>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What a local provider is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderType {
    /// A server that runs already, and speaks the API of this type.
    Fixed(LlmType),
    /// `vllm serve`, started when it is needed.
    VllmManaged,
}

impl ProviderType {
    /// The names, as written.
    pub const NAMES: &'static [&'static str] =
        &["openai", "anthropic", "deepseek", "vllm", "ollama", "vllm-managed"];

    /// The type of this name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "openai" => Self::Fixed(LlmType::OpenAi),
            "anthropic" => Self::Fixed(LlmType::Anthropic),
            "deepseek" => Self::Fixed(LlmType::DeepSeek),
            "vllm" => Self::Fixed(LlmType::Vllm),
            "ollama" => Self::Fixed(LlmType::Ollama),
            "vllm-managed" => Self::VllmManaged,
            _ => return None,
        })
    }

    /// The name, as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fixed(ty) => ty.as_str(),
            Self::VllmManaged => "vllm-managed",
        }
    }

    /// How it is spoken to.
    pub const fn speaks(self) -> LlmType {
        match self {
            Self::Fixed(ty) => ty,
            Self::VllmManaged => LlmType::Vllm,
        }
    }
}

impl<'de> Deserialize<'de> for ProviderType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::of(&name).ok_or_else(|| {
            let choices = Self::NAMES.join(", ");
            serde::de::Error::custom(format!("type: `{name}` is not one of {choices}"))
        })
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretValue>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|key| !key.is_empty()).map(SecretValue::new))
}

impl ProviderSettings {
    /// Reads the list `providers` of a configuration file; null is an empty one.
    ///
    /// # Errors
    ///
    /// Invalid, naming the entry and the field.
    pub fn list(providers: &Value) -> Result<Vec<Self>> {
        match providers {
            Value::Null => Ok(Vec::new()),
            Value::Array(entries) => {
                entries.iter().enumerate().map(|(n, entry)| Self::entry(n, entry)).collect()
            }
            _ => Err(Error::invalid("providers: must be a list")),
        }
    }

    fn entry(number: usize, entry: &Value) -> Result<Self> {
        Self::read(entry).map_err(|error| match entry.get("name").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => error.context(format_args!("providers: `{name}`")),
            _ => error.context(format_args!("providers[{number}]")),
        })
    }

    /// Reads and checks one entry.
    ///
    /// # Errors
    ///
    /// Invalid, naming the field.
    pub fn read(entry: &Value) -> Result<Self> {
        // What serde says of a value of the wrong type would repeat it, and it may be the key.
        if entry.get("apiKey").is_some_and(|key| !key.is_string() && !key.is_null()) {
            return Err(Error::invalid("apiKey: must be a string"));
        }
        let settings = Self::deserialize(entry).map_err(|fault| Error::invalid(fault.to_string()))?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether the fields fit each other.
    ///
    /// # Errors
    ///
    /// Invalid, with every fault and its field.
    pub fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        if let Some(fault) = NameRule::Label.fault(&self.name) {
            faults.add("name", fault);
        }
        if self.model.is_empty() || self.model.len() > 200 {
            faults.add("model", "must be 1 to 200 characters");
        }
        if self.tier.as_deref().is_some_and(|tier| !["fast", "heavy"].contains(&tier)) {
            faults.add("tier", "must be one of fast, heavy");
        }
        for llm in &self.failover_for {
            if let Some(fault) = NameRule::Label.fault(llm) {
                faults.add("failoverFor", format!("the name of an llm {fault}"));
            }
        }
        if let Some(key) = &self.api_key
            && http::HeaderValue::from_str(key.expose().trim()).is_err()
        {
            faults.add("apiKey", "cannot be sent in a header");
        }
        self.check_place(&mut faults);
        faults.into_result()
    }

    /// A server that runs already has a URL; one that is started has what it is started with.
    fn check_place(&self, faults: &mut Faults) {
        let url = self.url.as_deref().filter(|url| !url.is_empty());
        let managed = self.ty == ProviderType::VllmManaged;
        match url {
            None if !managed => faults.add("url", format!("is required for type {}", self.ty.as_str())),
            Some(_) if managed => faults.add("url", "does not go with type vllm-managed; `port` does"),
            Some(url) => {
                if let Err(error) = parse_base_url(url) {
                    faults.add("url", error.message());
                }
            }
            None => {}
        }
        if managed {
            if self.gpu_memory_utilization.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
                faults.add("gpuMemoryUtilization", "must be over 0 and at most 1");
            }
            if self.idle_timeout_minutes.is_some_and(|minutes| !(0.0..=525_600.0).contains(&minutes)) {
                faults.add("idleTimeoutMinutes", "must be a number of minutes, at most a year");
            }
            for (field, zero) in
                [("port", self.port == Some(0)), ("maxModelLen", self.max_model_len == Some(0))]
            {
                if zero {
                    faults.add(field, "must be a positive whole number");
                }
            }
            return;
        }
        let alien = [
            ("port", self.port.is_some()),
            ("venvPath", self.venv_path.is_some()),
            ("gpuMemoryUtilization", self.gpu_memory_utilization.is_some()),
            ("maxModelLen", self.max_model_len.is_some()),
            ("extraArgs", !self.extra_args.is_empty()),
            ("idleTimeoutMinutes", self.idle_timeout_minutes.is_some()),
        ];
        for (field, _) in alien.into_iter().filter(|(_, present)| *present) {
            faults.add(field, "is for type vllm-managed alone");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(entry: &Value) -> String {
        ProviderSettings::read(entry).unwrap_err().message().to_owned()
    }

    #[test]
    fn every_type_is_read_and_spoken_to() {
        for name in ProviderType::NAMES {
            let ty = ProviderType::of(name).unwrap();
            assert_eq!(ty.as_str(), *name);
            let url = (*name != "vllm-managed").then_some("http://127.0.0.1:8000");
            let entry = json!({"name": "a", "type": name, "model": "m", "url": url, "failoverFor": ["gpt"]});
            assert_eq!(ProviderSettings::read(&entry).unwrap().ty, ty);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let base = json!({"name": "a", "type": "vllm", "model": "m", "url": "http://127.0.0.1:1"});
        for (field, value, expected) in [
            (
                "type",
                json!("llama"),
                "`llama` is not one of openai, anthropic, deepseek, vllm, ollama, vllm-managed",
            ),
            ("url", json!(null), "url: is required for type vllm"),
            ("url", json!("ftp://h"), "url: invalid URL"),
            ("name", json!("A b"), "name: must be 1 to 100 characters"),
            ("model", json!(""), "model: must be"),
            ("tier", json!("slow"), "tier: must be one of fast, heavy"),
            ("failoverFor", json!(["*"]), "failoverFor: the name of an llm must be"),
            ("modle", json!("x"), "unknown field `modle`, expected one of `name`"),
            ("port", json!(8000), "port: is for type vllm-managed alone"),
            ("apiKey", json!({"sk-1": 1}), "apiKey: must be a string"),
            ("apiKey", json!("sk\n1"), "apiKey: cannot be sent in a header"),
        ] {
            let mut entry = base.clone();
            entry[field] = value;
            let fault = fault(&entry);
            assert!(fault.contains(expected) && !fault.contains("sk"), "{field}: {fault}");
        }
        let error =
            ProviderSettings::list(&json!([base, {"name": "b", "type": "x", "model": "m"}])).unwrap_err();
        assert!(error.message().starts_with("providers: `b`: "), "{error}");
        let error = ProviderSettings::list(&json!([{}])).unwrap_err();
        assert_eq!(error.message(), "providers[0]: missing field `name`");
    }

    #[test]
    fn a_managed_one_has_no_url_and_sane_numbers() {
        let entry = json!({"name": "a", "type": "vllm-managed", "model": "m", "url": "http://h", "port": 0,
                           "gpuMemoryUtilization": 1.5, "idleTimeoutMinutes": -1});
        let fault = fault(&entry);
        for field in ["url", "port", "gpuMemoryUtilization", "idleTimeoutMinutes"] {
            assert!(fault.contains(&format!("{field}: ")), "{fault}");
        }
    }

    #[test]
    fn debug_hides_the_key() {
        let entry = json!({"name": "a", "type": "vllm", "model": "m", "url": "http://h", "apiKey": "sk-1"});
        assert!(!format!("{:?}", ProviderSettings::read(&entry).unwrap()).contains("sk-1"));
    }
}
