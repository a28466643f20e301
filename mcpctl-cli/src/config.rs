//! `config.json`: servers as contexts. Keys that mean nothing here are kept as they are.

use mcpctl_core::{
    client::parse_base_url,
    failover::ProviderSettings,
    resource::{MASK, is_credential_key},
};
use serde_json::{Map, Value, json};

use crate::{failure::Failure, home::Home};

const FILE: &str = "config.json";
/// The server when nothing names another.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:3100";
const DEFAULT_CONTEXT: &str = "default";
/// Where a context names the user it acts for.
const IMPERSONATE: &str = "impersonate";

/// The configuration, as the file has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Config(Map<String, Value>);

impl Config {
    /// Reads the file; empty when there is none.
    pub(crate) fn load(home: &Home) -> Result<Self, Failure> {
        match home.read(FILE)? {
            None => Ok(Self::default()),
            Some(Value::Object(map)) => Ok(Self(map)),
            Some(_) => {
                Err(Failure::new(format!("reading {}: expected a JSON object", home.file(FILE).display())))
            }
        }
    }

    /// Writes the file.
    pub(crate) fn save(&self, home: &Home) -> Result<(), Failure> {
        home.write(FILE, &Value::Object(self.0.clone()))
    }

    /// The name of the context in use.
    pub(crate) fn current(&self) -> &str {
        self.0.get("currentContext").and_then(Value::as_str).unwrap_or(DEFAULT_CONTEXT)
    }

    /// The URL of the context in use, if it has one.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url_of(self.current())
    }

    /// The URL of a context.
    pub(crate) fn url_of(&self, context: &str) -> Option<&str> {
        self.0.get("contexts")?.get(context)?.get("url")?.as_str()
    }

    /// The user whom the context in use acts for.
    pub(crate) fn impersonated(&self) -> Option<&str> {
        self.0.get("contexts")?.get(self.current())?.get(IMPERSONATE)?.as_str()
    }

    /// Makes the context in use act for a user, or for nobody else.
    pub(crate) fn impersonate(&mut self, user: Option<&str>) -> Result<(), Failure> {
        let current = self.current().to_owned();
        if self.url().is_none() {
            self.set_url(&current, DEFAULT_URL)?;
        }
        let context = object_at(object_at(&mut self.0, "contexts")?, &current)?;
        match user {
            Some(user) => context.insert(IMPERSONATE.into(), user.into()),
            None => context.shift_remove(IMPERSONATE),
        };
        Ok(())
    }

    /// The local providers.
    pub(crate) fn providers(&self) -> Result<Vec<ProviderSettings>, Failure> {
        let settings = ProviderSettings::list(self.0.get("providers").unwrap_or(&Value::Null));
        settings.map_err(|error| {
            Failure::new(format!("reading {FILE}: {}", error.message())).hint("correct the file")
        })
    }

    /// The names of the contexts.
    pub(crate) fn contexts(&self) -> Vec<&str> {
        let contexts = self.0.get("contexts").and_then(Value::as_object);
        contexts.map(|contexts| contexts.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    /// Gives a context a URL, making the context if need be.
    pub(crate) fn set_url(&mut self, context: &str, url: &str) -> Result<(), Failure> {
        let url = normal_url(url)?;
        let contexts = object_at(&mut self.0, "contexts")?;
        object_at(contexts, context)?.insert("url".into(), url.into());
        Ok(())
    }

    /// Makes a context the one in use.
    pub(crate) fn use_context(&mut self, context: &str) -> Result<(), Failure> {
        if self.url_of(context).is_none() {
            let known = self.contexts().join(", ");
            let hint = format!("`mcpctl config use-context {context} --url URL` makes it");
            let known = if known.is_empty() {
                "there are none yet".to_owned()
            } else {
                format!("there are: {known}")
            };
            return Err(Failure::new(format!("no context is called `{context}`; {known}")).hint(hint));
        }
        self.0.insert("currentContext".into(), context.into());
        Ok(())
    }

    /// Makes the server at `url` the one in use: the context that has it, or a new one. Says which.
    pub(crate) fn remember(&mut self, url: &str) -> Result<String, Failure> {
        let url = normal_url(url)?;
        let same = |config: &Self, name: &str| config.url_of(name).is_some_and(|known| known == url);
        let known = if same(self, self.current()) {
            Some(self.current().to_owned())
        } else {
            self.contexts().into_iter().find(|name| same(self, name)).map(str::to_owned)
        };
        let name = known.unwrap_or_else(|| match self.url() {
            // A context that points elsewhere is left alone: its name may mean that server.
            Some(_) => url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).replace('/', "-"),
            None => self.current().to_owned(),
        });
        self.set_url(&name, &url)?;
        self.use_context(&name)?;
        Ok(name)
    }

    /// The value of `key`: `url`, `current-context`, or a path with dots such as `contexts.prod.url`.
    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        match key {
            "url" => Some(self.url().unwrap_or(DEFAULT_URL).into()),
            "current-context" | "currentContext" => Some(self.current().into()),
            path => {
                // A context's name may hold dots, as host names do.
                if let Some(name) = context_of(path) {
                    return self.url_of(name).map(Value::from);
                }
                let mut parts = path.split('.');
                let first = self.0.get(parts.next()?)?;
                parts.try_fold(first, |value, part| value.get(part)).cloned()
            }
        }
    }

    /// Sets `url`, `current-context` or `contexts.NAME.url`.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match key {
            "url" => {
                let current = self.current().to_owned();
                self.set_url(&current, value)
            }
            "current-context" | "currentContext" => self.use_context(value),
            path => match context_of(path) {
                Some(name) => self.set_url(name, value),
                None => Err(Failure::usage(format!(
                    "unknown key `{key}`; expected url, current-context or contexts.NAME.url"
                ))),
            },
        }
    }

    /// The whole, fit to be shown: credentials are masked.
    pub(crate) fn masked(&self) -> Value {
        let mut shown = self.0.clone();
        shown.entry("currentContext").or_insert_with(|| DEFAULT_CONTEXT.into());
        if !shown.contains_key("contexts") {
            shown.insert("contexts".into(), json!({DEFAULT_CONTEXT: {"url": DEFAULT_URL}}));
        }
        mask(Value::Object(shown))
    }
}

/// `NAME` of `contexts.NAME.url`.
fn context_of(path: &str) -> Option<&str> {
    path.strip_prefix("contexts.")?.strip_suffix(".url").filter(|name| !name.is_empty())
}

/// `value` with credentials masked at any depth.
pub(crate) fn mask(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(text) if is_credential_key(&key) && !text.is_empty() => (key, MASK.into()),
                value => (key, mask(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(mask).collect(),
        value => value,
    }
}

/// A server's URL in the one form that files and comparisons use.
pub(crate) fn normal_url(text: &str) -> Result<String, Failure> {
    let url = parse_base_url(text).map_err(|error| Failure::usage(error.message()))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn object_at<'a>(map: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Map<String, Value>, Failure> {
    map.entry(key)
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
        .ok_or_else(|| Failure::new(format!("`{key}` in config.json is no object")).hint("correct the file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_made_used_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let mut config = Config::load(&home).unwrap();
        assert_eq!((config.current(), config.url()), ("default", None));
        assert!(config.use_context("prod").is_err());
        config.set("url", "http://127.0.0.1:3100/").unwrap();
        config.set("contexts.prod.eu.url", "https://MCP.example").unwrap();
        config.use_context("prod.eu").unwrap();
        config.save(&home).unwrap();
        let config = Config::load(&home).unwrap();
        assert_eq!(config.get("url"), Some("https://mcp.example".into()));
        assert_eq!(config.get("contexts.default.url"), Some("http://127.0.0.1:3100".into()));
        assert_eq!(config.get("current-context"), Some("prod.eu".into()));
        assert_eq!(config.get("nonsense.x"), None);
    }

    #[test]
    fn typos_and_bad_urls_are_refused() {
        let mut config = Config::default();
        assert!(config.set("ulr", "http://h").is_err());
        assert!(config.set("url", "localhost:3100").is_err());
        assert!(config.set("url", "http://user:pa55@h").is_err());
    }

    #[test]
    fn a_login_remembers_its_server_without_moving_other_contexts() {
        let mut config = Config::default();
        assert_eq!(config.remember("http://h:1").unwrap(), "default");
        assert_eq!(config.remember("http://h:1/").unwrap(), "default");
        assert_eq!(config.remember("https://mcp.example:8443").unwrap(), "mcp.example:8443");
        assert_eq!(config.url_of("default"), Some("http://h:1"));
        assert_eq!(config.url(), Some("https://mcp.example:8443"));
        assert_eq!(config.remember("http://h:1").unwrap(), "default");
    }

    #[test]
    fn unknown_keys_are_kept_and_credentials_are_masked_in_the_view() {
        let config =
            Config(json!({"providers": [{"name": "p", "apiKey": "sk-1"}]}).as_object().cloned().unwrap());
        let shown = config.masked();
        assert_eq!(shown["providers"][0], json!({"name": "p", "apiKey": MASK}));
        assert_eq!(shown["contexts"]["default"]["url"], DEFAULT_URL);
        assert_eq!(config.0["providers"][0]["apiKey"], "sk-1");
    }
}
