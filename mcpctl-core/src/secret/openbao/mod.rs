//! The `openbao` backend: values in a KV v2 engine of OpenBao, or of a Vault that speaks the same.

mod http;
mod login;

use std::{collections::BTreeMap, fmt, sync::Arc};

use ::http::Method;
use async_trait::async_trait;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::{
    http::{Answer, Http, fault, no_answer},
    login::Login,
};
use super::{
    BackendFault, Checked, Credentials, Found, Over, SecretBackend, SecretData, SecretValue, Slot, Stored,
};
use crate::{
    error::{Error, ErrorKind, Result},
    resource::{OpenBaoAuth, OpenBaoConfig, tidied},
    store::Write,
};

/// Keeps values in OpenBao.
pub struct OpenBaoBackend {
    /// Its name, for errors.
    name: String,
    config: OpenBaoConfig,
    http: Http,
    login: Login,
}

/// What is at a path.
enum Held {
    Values(Found),
    /// Nothing. Deleted versions count.
    Nothing {
        revision: i64,
    },
}

/// An answer of KV v2 to a read.
#[derive(Deserialize)]
struct ReadAnswer {
    data: ReadData,
}

#[derive(Deserialize)]
struct ReadData {
    data: Option<BTreeMap<String, Text>>,
    metadata: Metadata,
}

/// An answer of KV v2 to a write.
#[derive(Deserialize)]
struct WriteAnswer {
    data: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: i64,
}

/// A value; `None` when it is no text. Read without an intermediate copy, which nobody would wipe.
struct Text(Option<SecretValue>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(SecretValue::new(text))))
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(Text(Some(SecretValue::new(text))))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

/// The body of a write.
#[derive(Serialize)]
struct WriteBody<'a> {
    data: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
}

#[derive(Serialize)]
struct Options {
    cas: i64,
}

impl OpenBaoBackend {
    /// The backend of this name. Its token is asked for when it is needed.
    ///
    /// # Errors
    ///
    /// Invalid, when the config cannot be used.
    pub fn new(name: &str, config: OpenBaoConfig, credentials: Arc<dyn Credentials>) -> Result<Self> {
        let name = name.to_owned();
        let http =
            Http::new(&config).map_err(|error| error.context(format_args!("secretbackend `{name}`")))?;
        Ok(Self { name, config, http, login: Login::new(credentials) })
    }

    /// The path below the mount: `mcpctl/name`.
    fn below_mount(&self, secret: &str) -> String {
        match self.config.path_prefix.as_str() {
            "" => secret.to_owned(),
            prefix => format!("{prefix}/{secret}"),
        }
    }

    /// The path as OpenBao's own programs take it: `secret/mcpctl/name`.
    fn path(&self, secret: &str) -> String {
        format!("{}/{}", self.config.mount, self.below_mount(secret))
    }

    fn data_path(&self, secret: &str) -> String {
        format!("{}/data/{}", self.config.mount, self.below_mount(secret))
    }

    fn metadata_path(&self, secret: &str) -> String {
        format!("{}/metadata/{}", self.config.mount, self.below_mount(secret))
    }

    /// The error with where it happened in front.
    fn about(&self, secret: &str, error: Error) -> Error {
        error.context(format_args!("secretbackend `{}`, path `{}`", self.name, self.path(secret)))
    }

    /// Sends a request with our token. One that is refused is sent once more with a new token, if a login gives one.
    async fn call(&self, method: Method, path: &str, body: Option<&Zeroizing<Vec<u8>>>) -> Result<Answer> {
        let token = self.login.token(&self.http, &self.config, None).await?;
        let answer = self.http.send(method.clone(), path, Some(&token), body.cloned()).await?;
        if answer.status.as_u16() != 403 || self.config.auth == OpenBaoAuth::Token {
            return Ok(answer);
        }
        let token = self.login.token(&self.http, &self.config, Some(&token)).await?;
        self.http.send(method, path, Some(&token), body.cloned()).await
    }

    async fn held(&self, secret: &str) -> Result<Held> {
        let answer = self.call(Method::GET, &self.data_path(secret), None).await?;
        match answer.status.as_u16() {
            200 => {
                let read: ReadAnswer = serde_json::from_slice(&answer.body).map_err(|_| no_answer())?;
                let revision = read.data.metadata.version;
                let Some(texts) = read.data.data else { return Ok(Held::Nothing { revision }) };
                Ok(Held::Values(Found { data: values(texts)?, revision }))
            }
            // What was deleted is still counted.
            404 => match serde_json::from_slice::<ReadAnswer>(&answer.body) {
                Ok(read) => Ok(Held::Nothing { revision: read.data.metadata.version }),
                Err(_) if answer.errors().is_empty() && answer.json().is_ok() => {
                    Ok(Held::Nothing { revision: 0 })
                }
                Err(_) => Err(answer.failure()),
            },
            _ => Err(answer.failure()),
        }
    }

    async fn put(&self, secret: &str, data: &SecretData, cas: Option<i64>) -> Result<i64> {
        let data = data.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
        let body = WriteBody { data, options: cas.map(|cas| Options { cas }) };
        let body = Zeroizing::new(serde_json::to_vec(&body).map_err(Error::internal)?);
        let answer = self.call(Method::POST, &self.data_path(secret), Some(&body)).await?;
        if answer.status.as_u16() != 200 {
            return Err(answer.failure());
        }
        // An engine of version 1 answers nothing, and would keep no versions.
        let written: WriteAnswer = serde_json::from_slice(&answer.body).map_err(|_| no_answer())?;
        Ok(written.data.version)
    }

    /// Writes, and settles what a refused check-and-set means.
    async fn put_over(&self, secret: &str, data: &SecretData, over: Over) -> Result<i64> {
        let cas = match over {
            Over::Nothing => Some(0),
            Over::Revision(revision) => Some(revision),
            Over::Anything => None,
        };
        let refused = match self.put(secret, data, cas).await {
            Err(error) if BackendFault::of(&error) == Some(BackendFault::Changed) => error,
            done => return done,
        };
        match self.held(secret).await? {
            // An earlier attempt came this far.
            Held::Values(found) if found.data == *data => Ok(found.revision),
            // Deleted there: nobody's value is replaced.
            Held::Nothing { revision } if !matches!(over, Over::Revision(_)) => {
                self.put(secret, data, Some(revision)).await
            }
            // An engine that demands check-and-set.
            Held::Values(found) if over == Over::Anything => {
                self.put(secret, data, Some(found.revision)).await
            }
            Held::Values(_) | Held::Nothing { .. } => Err(refused),
        }
    }

    /// What our token may do at a path; `None` when OpenBao does not say.
    async fn capabilities(&self, paths: [&str; 2]) -> Result<Option<[Vec<String>; 2]>> {
        let body = serde_json::to_vec(&json!({"paths": paths})).map_err(Error::internal)?;
        let answer = self.call(Method::POST, "sys/capabilities-self", Some(&Zeroizing::new(body))).await?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let answer = answer.json()?;
        let of = |path: &str| -> Option<Vec<String>> {
            let list = answer.get("data").and_then(|data| data.get(path)).or_else(|| answer.get(path))?;
            Some(list.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        Ok(paths.map(of).into_iter().collect::<Option<Vec<_>>>().and_then(|both| both.try_into().ok()))
    }

    async fn look(&self) -> Result<Checked> {
        const PROBE: &str = "mcpctl-connection-test";
        // That nothing is there is what is expected.
        self.held(PROBE).await?;
        let (data, metadata) = (self.data_path(PROBE), self.metadata_path(PROBE));
        let Some([data, metadata]) = self.capabilities([&data, &metadata]).await? else {
            return Ok(ready("it can be read; OpenBao does not tell whether it can be written"));
        };
        let all = |has: &[String], wanted: &[&str]| {
            wanted.iter().all(|wanted| has.iter().any(|has| has == wanted || has == "root"))
        };
        let mut lacks = Vec::new();
        for (path, has, wanted) in
            [("data", &data, ["create", "update"].as_slice()), ("metadata", &metadata, &["delete"])]
        {
            if !all(has, wanted) {
                lacks.push(format!("{} on `{}/{path}`", wanted.join(" and "), self.config.mount));
            }
        }
        if lacks.is_empty() {
            return Ok(ready("it can be read, written and deleted from"));
        }
        let message = format!("it can be read, but the policy lacks {}", lacks.join(", and "));
        Ok(Checked { ok: false, message, fault: Some(BackendFault::Permission) })
    }
}

fn ready(message: &str) -> Checked {
    Checked { ok: true, message: message.to_owned(), fault: None }
}

/// The values in an answer, all of which are texts.
fn values(texts: BTreeMap<String, Text>) -> Result<SecretData> {
    let mut data = SecretData::new();
    for (key, text) in texts {
        let Text(Some(value)) = text else {
            let what = format!("the value of `{}` is no text", tidied(key));
            return Err(fault(BackendFault::Malformed, what));
        };
        data.insert(key, value);
    }
    Ok(data)
}

#[async_trait]
impl SecretBackend for OpenBaoBackend {
    async fn read(&self, slot: &Slot) -> Result<Found> {
        let read = async {
            match self.held(&slot.name).await? {
                Held::Values(found) => Ok(found),
                Held::Nothing { .. } => Err(fault(BackendFault::NotFound, "nothing is stored there (404)")),
            }
        };
        read.await.map_err(|error| self.about(&slot.name, error))
    }

    async fn write(&self, slot: &Slot, data: &SecretData, over: Over) -> Result<Stored> {
        let written = self.put_over(&slot.name, data, over).await;
        let revision = written.map_err(|error| self.about(&slot.name, error))?;
        Ok(Stored { external_ref: self.path(&slot.name), revision, writes: Vec::new() })
    }

    async fn delete(&self, slot: &Slot) -> Result<Vec<Write>> {
        // Its values are erased once the row is gone. Whoever cannot do that finds out before.
        self.held(&slot.name).await.map_err(|error| self.about(&slot.name, error))?;
        Ok(Vec::new())
    }

    async fn erase(&self, slot: &Slot) -> Result<()> {
        let erase = async {
            let answer = self.call(Method::DELETE, &self.metadata_path(&slot.name), None).await?;
            match answer.status.as_u16() {
                200 | 204 => Ok(()),
                404 if answer.errors().is_empty() => Ok(()),
                _ => Err(answer.failure()),
            }
        };
        erase.await.map_err(|error| self.about(&slot.name, error))
    }

    fn is_external(&self) -> bool {
        true
    }

    async fn check(&self) -> Result<Checked> {
        match self.look().await {
            Ok(checked) => Ok(checked),
            Err(error) if error.kind() == ErrorKind::SecretUnavailable => Ok(Checked {
                ok: false,
                message: error.message().to_owned(),
                fault: BackendFault::of(&error),
            }),
            Err(error) => Err(error.context(format_args!("secretbackend `{}`", self.name))),
        }
    }
}
