//! The server's API, one method per call.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, Token, transport::Patience};
use crate::{
    error::Result,
    resource::{
        Kind, Spec,
        kinds::{SECRET_BACKENDS, SECRETS},
    },
};

/// A session that was just begun.
#[derive(Debug)]
pub struct LoggedIn {
    /// The session's token.
    pub token: Token,
    /// When it ends by itself, RFC 3339; empty when the server does not say.
    pub expires_at: String,
    /// Who logged in.
    pub user: Spec,
}

/// The answer to "may I?".
#[derive(Clone, Debug, Deserialize)]
pub struct CanI {
    /// Whether the caller may.
    pub allowed: bool,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// The RBAC definition that decided, when there is one.
    #[serde(default)]
    pub binding: Option<String>,
}

/// Somebody who may do something.
#[derive(Clone, Debug, Deserialize)]
pub struct Able {
    /// `User`, `Group` or `McpToken`.
    pub kind: String,
    /// The user's, the group's or the token's name.
    pub name: String,
    /// What decided.
    pub binding: String,
    /// The group through which a user may.
    #[serde(default)]
    pub group: Option<String>,
}

/// The body that asks about a permission.
fn question(action: &str, resource: Option<&str>, name: Option<&str>) -> Value {
    let given = [("action", Some(action)), ("resource", resource), ("name", name)];
    let given = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into())));
    Value::Object(given.collect())
}

impl Client {
    /// Begins a session.
    ///
    /// # Errors
    ///
    /// Unauthenticated for a wrong e-mail address or password, and those of every call: the server's own
    /// refusal under the kind of its status, or unavailable with [`Unreachable`](super::Unreachable) as its source.
    pub async fn login(&self, email: &str, password: &str) -> Result<LoggedIn> {
        let body = json!({"email": email, "password": password});
        self.begin("login", &body).await
    }

    /// Sets the password of the user whose session this client sends, and begins a new session: the old ones end.
    ///
    /// # Errors
    ///
    /// Forbidden when `current` is wrong or the token is no session's, and those of every call.
    pub async fn change_password(&self, current: &str, new: &str) -> Result<LoggedIn> {
        self.begin("password", &json!({"currentPassword": current, "newPassword": new})).await
    }

    async fn begin(&self, path: &str, body: &Value) -> Result<LoggedIn> {
        let answer = self.call(Method::POST, &["auth", path], &[], Some(body)).await;
        let mut answer = answer.and_then(|value| self.object(value))?;
        let Some(Value::String(token)) = answer.remove("token") else {
            return Err(self.not_ours("its answer to a login holds no token"));
        };
        let text =
            |value: Option<Value>| value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let expires_at = text(answer.remove("expiresAt"));
        let user = answer.remove("user").and_then(|user| user.as_object().cloned()).unwrap_or_default();
        Ok(LoggedIn { token: Token::new(token), expires_at, user })
    }

    /// Ends the session whose token this client sends.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn logout(&self) -> Result<()> {
        self.call(Method::POST, &["auth", "logout"], &[], None).await.map(drop)
    }

    /// Whose token this client sends.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn whoami(&self) -> Result<Spec> {
        let answer = self.call(Method::GET, &["auth", "whoami"], &[], None).await?;
        self.object(answer)
    }

    /// Whether the caller may do `action` on `resource` (a plural kind), or on the one called `name`; without a
    /// resource, `action` is an operation.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn can_i(&self, action: &str, resource: Option<&str>, name: Option<&str>) -> Result<CanI> {
        let answer =
            self.call(Method::POST, &["auth", "can-i"], &[], Some(&question(action, resource, name))).await?;
        serde_json::from_value(answer).map_err(|_| self.not_ours("its answer to `can-i` has an unknown form"))
    }

    /// Who may do `action` on `resource`, asked as [`can_i`](Self::can_i).
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn who_can(
        &self,
        action: &str,
        resource: Option<&str>,
        name: Option<&str>,
    ) -> Result<Vec<Able>> {
        let body = question(action, resource, name);
        let mut answer = self.call(Method::POST, &["auth", "who-can"], &[], Some(&body)).await?;
        let subjects = answer.get_mut("subjects").map(Value::take).unwrap_or_default();
        serde_json::from_value(subjects)
            .map_err(|_| self.not_ours("its answer to `who-can` has an unknown form"))
    }

    /// The public keys that the server signs leases with, as a JWK Set (RFC 7517).
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn lease_keys(&self) -> Result<Value> {
        self.call(Method::GET, &["auth", "keys"], &[], None).await
    }

    /// Every resource of `kind` that the caller may view, sorted by name. Pages are put together.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn list(&self, kind: Kind, query: &[(&str, &str)]) -> Result<Vec<Spec>> {
        let mut all = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.extend(next.as_deref().map(|next| ("continue", next)));
            let answer = self.call(Method::GET, &[kind.plural], &query, None).await?;
            let (items, more) = match answer {
                Value::Array(items) => (items, None),
                Value::Object(page) => self.page(page)?,
                _ => return Err(self.not_ours("its list is no list")),
            };
            for item in items {
                all.push(self.object(item)?);
            }
            if more.is_none() || more == next {
                return Ok(all);
            }
            next = more;
        }
    }

    /// One resource. `show_values` asks for a Secret's values as well, which needs the right to edit it.
    ///
    /// # Errors
    ///
    /// Not found, and those of every call.
    pub async fn get(&self, kind: Kind, id_or_name: &str, show_values: bool) -> Result<Spec> {
        let query: &[(&str, &str)] = if show_values { &[("showValues", "true")] } else { &[] };
        let answer = self.call(Method::GET, &[kind.plural, id_or_name], query, None).await?;
        self.object(answer)
    }

    /// Creates a resource from its fields, `name` included.
    ///
    /// # Errors
    ///
    /// Conflict when the name is taken, and those of every call.
    pub async fn create(&self, kind: Kind, body: Spec) -> Result<Spec> {
        let answer = self.call(Method::POST, &[kind.plural], &[], Some(&Value::Object(body))).await?;
        self.object(answer)
    }

    /// Replaces the fields that `body` carries. `version` is the one the change was made from, if that matters.
    ///
    /// # Errors
    ///
    /// Conflict when the stored version is newer, and those of every call.
    pub async fn put(&self, kind: Kind, id_or_name: &str, body: Spec, version: Option<i64>) -> Result<Spec> {
        self.update(Method::PUT, kind, id_or_name, body, version).await
    }

    /// Applies a JSON merge patch (RFC 7396). `version` is the one the change was made from, if that matters.
    ///
    /// # Errors
    ///
    /// Conflict when the stored version is newer, and those of every call.
    pub async fn patch(
        &self,
        kind: Kind,
        id_or_name: &str,
        body: Spec,
        version: Option<i64>,
    ) -> Result<Spec> {
        self.update(Method::PATCH, kind, id_or_name, body, version).await
    }

    async fn update(
        &self,
        method: Method,
        kind: Kind,
        id_or_name: &str,
        mut body: Spec,
        version: Option<i64>,
    ) -> Result<Spec> {
        if let Some(version) = version {
            body.insert("version".into(), version.into());
        }
        let answer = self.call(method, &[kind.plural, id_or_name], &[], Some(&Value::Object(body))).await?;
        self.object(answer)
    }

    /// Makes and changes resources, each with its `kind` and its `name`: with `atomic`, all in one transaction or none
    /// of them; with `dry_run`, only finds out what would become of them. What became of each:
    /// `{kind, name, outcome, error?, token?}`.
    ///
    /// # Errors
    ///
    /// As for every call. That a resource is refused is none: its outcome says so.
    pub async fn apply(&self, resources: Vec<Spec>, atomic: bool, dry_run: bool) -> Result<Vec<Spec>> {
        let body = json!({"resources": resources, "atomic": atomic, "dryRun": dry_run});
        let mut answer = self.call(Method::POST, &["apply"], &[], Some(&body)).await?;
        match answer.get_mut("results").map(Value::take) {
            Some(Value::Array(results)) => results.into_iter().map(|one| self.object(one)).collect(),
            _ => Err(self.not_ours("its answer to `apply` has no results")),
        }
    }

    /// Deletes a resource.
    ///
    /// # Errors
    ///
    /// Not found, conflict when it is in use, and those of every call.
    pub async fn delete(&self, kind: Kind, id_or_name: &str) -> Result<()> {
        self.call(Method::DELETE, &[kind.plural, id_or_name], &[], None).await.map(drop)
    }

    /// Tries a secret backend: `{ok, message, …}`.
    ///
    /// # Errors
    ///
    /// Not found, and those of every call.
    pub async fn test_secret_backend(&self, id_or_name: &str) -> Result<Spec> {
        let path = [SECRET_BACKENDS.plural, id_or_name, "test"];
        let answer = self.call(Method::POST, &path, &[], None).await?;
        self.object(answer)
    }

    /// Moves Secrets from one backend to another: `{from, to, names?, keepSource?, dryRun?}` in,
    /// `{migrated, skipped, failed}` out.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn migrate_secrets(&self, order: &Value) -> Result<Spec> {
        let path = ["api", "v1", SECRETS.plural, "migrate"];
        // As long as the backends need.
        let answer = self.json(Method::POST, &path, &[], Some(order), Patience::Endless).await?;
        self.object(answer)
    }

    /// One page of the audit log, newest first, and where the next one begins.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn audit_logs(&self, query: &[(&str, &str)]) -> Result<(Vec<Spec>, Option<String>)> {
        let answer = self.call(Method::GET, &["auditlogs"], query, None).await?;
        let (items, next) = self.page(self.object(answer)?)?;
        let items = items.into_iter().map(|item| self.object(item)).collect::<Result<_>>()?;
        Ok((items, next))
    }

    /// One event of the audit log.
    ///
    /// # Errors
    ///
    /// Not found, and those of every call.
    pub async fn audit_log(&self, id: &str) -> Result<Spec> {
        let answer = self.call(Method::GET, &["auditlogs", id], &[], None).await?;
        self.object(answer)
    }

    /// The server's version and what else it says of itself.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn version(&self) -> Result<Spec> {
        let answer = self.json(Method::GET, &["version"], &[], None, Patience::Short).await?;
        let answer = self.object(answer)?;
        if answer.get("version").is_none_or(|version| !version.is_string()) {
            return Err(self.not_ours("its /version names no version"));
        }
        Ok(answer)
    }

    /// Whether the process is up.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn healthz(&self) -> Result<()> {
        self.send(Method::GET, &["healthz"], &[], None, Patience::Short).await.map(drop)
    }

    /// Whether the server can serve: unavailable, with its reason, when it cannot.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn readyz(&self) -> Result<()> {
        self.send(Method::GET, &["readyz"], &[], None, Patience::Short).await.map(drop)
    }

    /// The Llms that the caller may run, as OpenAI's API lists models: `id` is the Llm's name.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn models(&self) -> Result<Vec<Spec>> {
        let answer = self.json(Method::GET, &["v1", "models"], &[], None, Patience::Short).await?;
        match self.object(answer)?.remove("data") {
            Some(Value::Array(models)) => models.into_iter().map(|model| self.object(model)).collect(),
            _ => Err(self.not_ours("its list of models is no list")),
        }
    }

    /// Asks an Llm: an OpenAI chat-completions body in, its answer out. Takes as long as the model does.
    ///
    /// # Errors
    ///
    /// Provider and provider-timeout when the model's server fails, and those of every call.
    pub async fn infer(&self, llm: &str, body: &Value) -> Result<Value> {
        let path = ["api", "v1", "llms", llm, "infer"];
        self.json(Method::POST, &path, &[], Some(body), Patience::Endless).await
    }

    /// A call below `/api/v1`.
    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value> {
        let path: Vec<&str> = ["api", "v1"].iter().chain(path).copied().collect();
        self.json(method, &path, query, body, Patience::Short).await
    }

    fn object(&self, value: Value) -> Result<Spec> {
        match value {
            Value::Object(map) => Ok(map),
            _ => Err(self.not_ours("its answer is no JSON object")),
        }
    }

    fn page(&self, mut page: Spec) -> Result<(Vec<Value>, Option<String>)> {
        let next = match page.remove("continue") {
            Some(Value::String(next)) if !next.is_empty() => Some(next),
            _ => None,
        };
        match page.remove("items") {
            Some(Value::Array(items)) => Ok((items, next)),
            _ => Err(self.not_ours("its list is no list")),
        }
    }
}
