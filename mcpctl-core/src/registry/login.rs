//! Logging in and out, and turning a token into a principal.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{LlmEntry, Registry, draft::change_event, open::Inner, query::missing};
use crate::{
    auth::{ApiToken, Principal, new_token},
    error::{Error, ErrorKind, Result},
    rbac::{Action, Operation, Permission, Rights},
    resource::{
        Actor, AuditEvent, EventDetail, Id, Impersonation, Kind, Login, NameRule, Object, Session, Spec,
        TokenHash, UserSpec, kinds, now, tidied,
    },
    secret::SecretValue,
    store::{Condition, Txn, Write},
};

/// Where a login comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The network address, as the limit per address knows it.
    pub address: &'a str,
    /// The request's id.
    pub request_id: Option<&'a str>,
}

/// A login that succeeded.
#[derive(Debug)]
pub struct LoggedIn {
    /// The token, shown this once.
    pub token: SecretValue,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whose it is.
    pub user: Object,
}

/// The administrator of a new installation.
#[derive(Debug)]
pub struct NewAdmin {
    /// The e-mail address.
    pub email: String,
    /// The password, when it was made up and must be shown once.
    pub generated: Option<SecretValue>,
}

/// The prefix of session tokens: it tells scanners what leaked.
const SESSION_PREFIX: &str = "mcpctl_st_";

impl Registry {
    /// Exchanges an e-mail address and a password for a token.
    ///
    /// # Errors
    ///
    /// Unauthenticated, alike for an unknown account and a wrong password; rate limited; unavailable.
    pub async fn login(&self, email: &str, password: SecretValue, origin: Origin<'_>) -> Result<LoggedIn> {
        let email = email.trim().to_lowercase();
        // What it is counted and told by: nobody's address is longer, and a long one would be kept for long.
        let account = tidied(email.clone());
        let record = |result: &str, email: &str, user: Option<&Object>| {
            let actor = Actor {
                user_id: user.map(|user| user.id.shared()),
                user: user.map(|user| user.name.as_str().into()),
                request_id: origin.request_id.map(Into::into),
                ..Actor::default()
            };
            AuditEvent::new(
                actor,
                EventDetail::Login(Login { email: email.to_owned(), result: result.to_owned(), count: None }),
            )
        };
        let user = match self.owner(&email, password, origin.address).await {
            Err(error) if error.kind() == ErrorKind::RateLimited => {
                if let Some(account) = self.inner.untold.note(&account) {
                    self.audit().record(record("limited", &account, None)).await?;
                }
                return Err(error);
            }
            user => user?,
        };
        let Some(user) = user else {
            self.audit().record(record("refused", &account, None)).await?;
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                "the e-mail address or the password is wrong",
            ));
        };
        let token = new_token(SESSION_PREFIX);
        let created_at = now();
        let lifetime = SignedDuration::try_from(self.inner.session_lifetime).map_err(Error::internal)?;
        let expires_at = created_at.checked_add(lifetime).map_err(Error::internal)?;
        let session = Session {
            token: TokenHash::of(token.expose()),
            user_id: user.id.clone(),
            created_at,
            expires_at,
        };
        let txn = Txn {
            // The account may have been deleted, or its password changed, while we were hashing.
            conditions: vec![Condition::Version {
                kind: kinds::USERS,
                id: user.id.clone(),
                version: user.version,
            }],
            writes: vec![Write::PutSession(session)],
            events: vec![record("ok", &account, Some(&user))],
        };
        match self.commit(txn).await? {
            None => Ok(LoggedIn { token, expires_at, user }),
            Some(_) => Err(Error::conflict("the account changed during the login: try again")),
        }
    }

    /// The account that has this password; `None`, after the same time, when there is none.
    pub(super) async fn owner(
        &self,
        email: &str,
        password: SecretValue,
        address: &str,
    ) -> Result<Option<Object>> {
        let Inner { limiter, passwords, store, .. } = &*self.inner;
        limiter.check(email, address)?;
        let user = store.find(kinds::USERS, email).await?;
        let hash = match &user {
            Some(user) => user.typed::<UserSpec>()?.password_hash,
            None => None,
        };
        let turn = passwords.turn().await?;
        limiter.begin(email, address)?;
        let fits = passwords.verify_in(turn, password, hash).await?;
        if fits {
            limiter.succeeded(email, address);
        }
        Ok(user.filter(|_| fits))
    }

    /// Ends the session of `who`. Its token is worth nothing from now on.
    ///
    /// # Errors
    ///
    /// Unavailable.
    pub async fn logout(&self, who: &Principal) -> Result<()> {
        let Some(token) = who.token else { return Ok(()) };
        self.commit(Txn { writes: vec![Write::RevokeSession(token)], ..Txn::default() }).await.map(drop)
    }

    /// The principal behind a token. Touches no store and takes no lock.
    ///
    /// # Errors
    ///
    /// Unauthenticated, with one message for every reason; unavailable, when the store has been away for so long
    /// that revocations may have been missed.
    pub fn authenticate(&self, token: &str, request_id: Option<&str>) -> Result<Principal> {
        self.check_fresh()?;
        self.known(TokenHash::of(token), request_id)
    }

    /// Whether `who` could begin to run `llm` now: its session may have ended since it was let in, its permission
    /// may be gone, or the Llm. For calls under way, which go on with what is known while the store is away.
    ///
    /// # Errors
    ///
    /// Unauthenticated; forbidden; not found.
    pub fn still_valid(&self, who: &Principal, llm: &LlmEntry) -> Result<()> {
        let rights = self.rights_now(who)?;
        if !rights.allow_on(Action::Run, kinds::LLMS, &llm.name, Some(&llm.id)) {
            let message = format!("missing permission `run:llms:{}`", llm.name);
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        match self.snapshot().shelf(kinds::LLMS).get(&llm.id) {
            Some(_) => Ok(()),
            None => Err(Error::not_found(format!("no llm named `{}`", llm.name))),
        }
    }

    /// What `who` may do now, as long as it may see something of the kind in a list.
    pub(super) fn rights_to_list(&self, who: &Principal, kind: Kind) -> Result<Rights> {
        let rights = self.rights_now(who)?;
        if rights.may_list(Action::View, kind) {
            return Ok(rights);
        }
        Err(Error::new(ErrorKind::Forbidden, format!("missing permission `view:{kind}`")))
    }

    /// What `who` may do now: its session may have ended since it was let in, and its roles may be others.
    fn rights_now(&self, who: &Principal) -> Result<Rights> {
        let known = who.token.map(|token| self.known(token, None)).transpose()?;
        match (&known, &who.user_id) {
            (Some(known), Some(user)) if who.impersonator.is_some() => self.acting_rights(known, user),
            (Some(known), _) => Ok(known.rights.clone()),
            (None, _) => Ok(who.rights.clone()),
        }
    }

    fn known(&self, token: TokenHash, request_id: Option<&str>) -> Result<Principal> {
        let snapshot = self.snapshot();
        let now = Timestamp::now();
        let bearer = snapshot.bearer(token, now).ok_or_else(unauthenticated)?;
        let api_token = bearer.token.map(|entry| {
            entry.used(now);
            ApiToken { name: entry.name.clone(), expires_at: entry.expires_at }
        });
        Ok(Principal {
            user_id: Some(bearer.user.id.clone()),
            name: bearer.user.name.as_str().into(),
            token: Some(token),
            api_token,
            impersonator: None,
            rights: bearer.rights,
            request_id: request_id.map(Into::into),
        })
    }

    /// `who`, acting for the user of this e-mail address or id: with all that the user may do, and no more. Nobody
    /// can act for a user who holds more than they do. The audit trail knows of it first, under `request`, the method
    /// and the path that it is done for.
    ///
    /// # Errors
    ///
    /// Forbidden, without the operation `impersonate`, or naming what the user holds and `who` does not; not found.
    pub async fn impersonate(&self, who: Principal, user: &str, request: &str) -> Result<Principal> {
        self.require(&who, &Permission::Operation(Operation::Impersonate)).await?;
        let snapshot = self.snapshot();
        let user = snapshot.shelf(kinds::USERS).resolve(user).ok_or_else(|| missing(kinds::USERS, user))?;
        let theirs = snapshot.policy().grants(&user.id);
        self.require_covers(&who, &theirs).await?;
        let acting = Principal {
            user_id: Some(user.id.clone()),
            name: user.name.as_str().into(),
            impersonator: Some(who.name),
            rights: theirs.into(),
            ..who
        };
        let event = EventDetail::Impersonation(Impersonation { request: request.to_owned() });
        self.audit().record(AuditEvent::new(acting.actor(), event)).await?;
        Ok(acting)
    }

    /// What `user` may do, for `known`, who acts for them: if that still may be.
    fn acting_rights(&self, known: &Principal, user: &Id) -> Result<Rights> {
        let may_act = known.rights.decide(&Permission::Operation(Operation::Impersonate)).allowed();
        let snapshot = self.snapshot();
        let theirs = snapshot.policy().grants(user);
        let is_there = snapshot.shelf(kinds::USERS).get(user).is_some();
        if may_act && is_there && known.rights.first_not_covered(&theirs).is_none() {
            return Ok(theirs.into());
        }
        Err(Error::new(ErrorKind::Forbidden, "missing permission `impersonate`"))
    }

    /// The user behind a principal; `None` for the embedding program.
    pub fn user_of(&self, who: &Principal) -> Option<std::sync::Arc<Object>> {
        self.snapshot().shelf(kinds::USERS).get(who.user_id()?).cloned()
    }

    /// Makes the first user, who may do everything, unless there are users. Without a `password`, one is made up.
    ///
    /// # Errors
    ///
    /// Invalid, when the address or the password will not do; unavailable.
    pub async fn bootstrap(&self, email: &str, password: Option<SecretValue>) -> Result<Option<NewAdmin>> {
        let since = self.inner.store.revision().await?;
        if !self.inner.store.list(kinds::USERS).await?.is_empty() {
            return Ok(None);
        }
        let root = self.root("bootstrap");
        let email = email.trim().to_lowercase();
        if let Some(fault) = NameRule::Email.fault(&email) {
            return Err(Error::invalid(format!("the admin's e-mail address {fault}")));
        }
        let (password, made_up) = match password {
            Some(password) => (password, false),
            None => (new_token(""), true),
        };
        let body = json!({"name": email, "displayName": "Administrator", "password": password.expose()});
        let (name, reading) = kinds::USERS.read_new(object(body))?;
        let user = self.draft(&root, kinds::USERS, None, &name, reading).await?;
        let (mut txn, user) = user.into_txn(&root);
        // Several servers may start on one empty database: one of them makes the admin.
        txn.conditions.push(Condition::KindUnchanged { kind: kinds::USERS, since });
        let rbac = Object::new(kinds::RBAC, admin_definition_name(self, &user).await?, admin_spec(&user));
        txn.conditions.push(Condition::NameAbsent { kind: kinds::RBAC, name: rbac.name.clone() });
        txn.events.push(change_event(root.actor(), "create", &rbac, Vec::new()));
        txn.writes.push(Write::Put(rbac));
        match self.commit(txn).await? {
            None => Ok(Some(NewAdmin { email, generated: made_up.then_some(password) })),
            Some(_) => Ok(None),
        }
    }
}

/// `admin`, unless an earlier installation left a definition of that name.
async fn admin_definition_name(registry: &Registry, user: &Object) -> Result<String> {
    let taken = registry.inner.store.find(kinds::RBAC, "admin").await?.is_some();
    Ok(if taken { format!("admin-{}", user.id) } else { "admin".to_owned() })
}

fn admin_spec(user: &Object) -> Spec {
    let operations = crate::rbac::Operation::ALL.map(|operation| json!({"role": "run", "action": operation}));
    let mut bindings =
        vec![json!({"role": "edit", "resource": "*"}), json!({"role": "run", "resource": "*"})];
    bindings.extend(operations);
    object(json!({
        "description": "everything, for the first user",
        "subjects": [{"kind": "User", "name": user.name, "id": user.id}],
        "roleBindings": bindings,
    }))
}

fn object(value: serde_json::Value) -> Spec {
    match value {
        serde_json::Value::Object(map) => map,
        _ => Spec::new(),
    }
}

fn unauthenticated() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "a valid token is needed: log in, and send it as `Authorization: Bearer <token>`",
    )
}
