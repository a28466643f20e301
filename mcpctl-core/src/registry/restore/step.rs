//! One resource of a backup, made or changed.

use serde_json::{Value, json};

use super::{
    super::{
        Registry,
        draft::Draft,
        secrets::{VALUE_VERSION, about},
    },
    Entry, OnConflict, RestoredAs, Run,
};
use crate::{
    auth::Principal,
    error::{Error, ErrorKind, Result},
    resource::{Kind, McpTokenSpec, Object, Spec, UserSpec, kinds},
    secret::BackendFault,
    store::{Outcome, Write},
};

/// What was done, and what to know about it.
type Step = (RestoredAs, Option<&'static str>);

impl Registry {
    pub(super) async fn restore_one(&self, who: &Principal, entry: &Entry, run: &mut Run) -> Result<Step> {
        let stored = self.inner.store.find(entry.kind, &entry.name).await?;
        if entry.kind == kinds::MCP_TOKENS && stored.as_ref().is_none_or(|stored| stored.id != entry.id) {
            match &run.revoked {
                Some(revoked) if revoked.contains(&entry.id) => {
                    return Ok((RestoredAs::Skipped, Some("it was revoked here, and stays so")));
                }
                None => return Ok((RestoredAs::Skipped, Some("whether it was revoked here is not known"))),
                Some(_) => {}
            }
        }
        match stored {
            None => self.restore_new(who, entry, run).await,
            Some(stored) => match self.restore_over(who, entry, &stored, run).await {
                // What cannot take its place is skipped as any other.
                Err(error)
                    if run.on_conflict == OnConflict::Skip
                        && [ErrorKind::Invalid, ErrorKind::Conflict].contains(&error.kind()) =>
                {
                    Ok((RestoredAs::Skipped, Some("another is here")))
                }
                step => step,
            },
        }
    }

    /// Makes what is not there.
    async fn restore_new(&self, who: &Principal, entry: &Entry, run: &mut Run) -> Result<Step> {
        self.check_unused(entry)?;
        let (mut body, mut note) = (entry.new_body(), None);
        if body.get("isDefault") == Some(&Value::Bool(true)) {
            match run.on_conflict {
                OnConflict::Replace => {}
                OnConflict::Skip => {
                    body.insert("isDefault".into(), false.into());
                    note = Some("another stays the default");
                }
                OnConflict::Fail => {
                    let now = self.default_backend().await?.name;
                    return Err(Error::conflict(format!("it would become the default in place of `{now}`")));
                }
            }
        }
        let (name, reading) = entry.kind.read_new(body)?;
        let mut draft = Draft::new(entry.kind, None, &name, reading);
        draft.next.id = entry.id.clone();
        draft.next.version = entry.version;
        draft.next.created_at = entry.created_at;
        draft.next.updated_at = entry.updated_at;
        self.refer(who, &mut draft).await?;
        if entry.kind == kinds::SECRETS {
            note = self.restore_secret(who, entry, &mut draft, run).await?.or(note);
        } else {
            self.apply_behaviour(who, &mut draft).await?;
        }
        set_hashes(entry, &mut draft);
        self.stage(who, draft, run).await?;
        Ok((RestoredAs::Created, note))
    }

    /// Changes what is there, if it differs and may be changed.
    async fn restore_over(
        &self,
        who: &Principal,
        entry: &Entry,
        stored: &Object,
        run: &mut Run,
    ) -> Result<Step> {
        let mut body = entry.body.clone();
        if body.get("isDefault") == Some(&Value::Bool(false)) {
            // Which one is the default is said by the one that is.
            body.shift_remove("isDefault");
        }
        let mut differs = Vec::new();
        if entry.kind == kinds::SECRETS {
            let is_external = self.backend_of(&stored.spec).await?.is_external();
            let same = self.has_values(entry, stored).await?;
            if !same {
                differs.push("data".to_owned());
            }
            if same || run.on_conflict != OnConflict::Replace || (is_external && run.dry_run) {
                body.shift_remove("data");
            }
        }
        let reading = entry.kind.read_put(stored, body)?;
        let mut draft = Draft::new(entry.kind, Some(stored), &stored.name, reading);
        let is_own = entry.kind == kinds::USERS && who.user_id() == Some(&stored.id);
        let other_token = entry.token.is_some_and(|token| {
            stored.spec.get(McpTokenSpec::TOKEN_SHA).and_then(Value::as_str) != Some(&token.to_hex())
        });
        if other_token {
            self.check_unused(entry)?;
            // Its life began with it.
            draft.next.created_at = entry.created_at;
        }
        self.refer(who, &mut draft).await?;
        self.apply_behaviour(who, &mut draft).await?;
        let other_password = entry.kind == kinds::USERS
            && stored.spec.get(UserSpec::PASSWORD_HASH).and_then(Value::as_str)
                != entry.password_hash.as_deref();
        if other_token {
            draft.touched.push("token");
        }
        if other_password && !is_own {
            draft.touched.push("password");
            draft.txn.writes.push(Write::RevokeSessionsOf(stored.id.clone()));
        }
        if !is_own {
            set_hashes(entry, &mut draft);
        }
        let note = (is_own && other_password).then_some("your own password stays as it is");
        if draft.is_empty() && differs.is_empty() {
            return Ok((RestoredAs::Unchanged, note));
        }
        match run.on_conflict {
            OnConflict::Skip => Ok((RestoredAs::Skipped, Some("another is here"))),
            OnConflict::Fail => {
                differs.extend(draft.changed_fields());
                Err(Error::conflict(format!("another is here, and differs in {}", differs.join(", "))))
            }
            OnConflict::Replace => {
                self.stage(who, draft, run).await?;
                Ok((RestoredAs::Updated, note))
            }
        }
    }

    /// Whether a Secret's values are those of the backup, or the backup has none.
    async fn has_values(&self, entry: &Entry, stored: &Object) -> Result<bool> {
        let Some(data) = entry.data() else { return Ok(true) };
        match self.read_values(stored).await {
            Ok(found) => Ok(found.data == data),
            Err(error) if BackendFault::of(&error) == Some(BackendFault::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A Secret's values, as far as the backup has them and the backend has not.
    async fn restore_secret(
        &self,
        who: &Principal,
        entry: &Entry,
        draft: &mut Draft<'_>,
        run: &Run,
    ) -> Result<Option<&'static str>> {
        let is_external = self.backend_of(&draft.next.spec).await?.is_external();
        let has_data = entry.body.contains_key("data");
        if is_external && (!has_data || run.dry_run) {
            // A reference to what the backend has.
            drop(draft.supplied.take("data"));
            draft.next.spec.insert("keys".into(), json!(entry.keys));
            draft.next.spec.insert("externalRef".into(), entry.external_ref.as_str().into());
            draft.next.spec.insert(VALUE_VERSION.into(), draft.next.version.into());
            return Ok((!has_data).then_some("its values are expected at its backend"));
        }
        self.apply_behaviour(who, draft).await.map_err(|error| about(&draft.next, error))?;
        let lost = !has_data && !entry.keys.is_empty();
        Ok(lost.then_some("without its values, which the backup does not have: set them"))
    }

    /// Refuses an id that something else has, and a token that another McpToken is.
    fn check_unused(&self, entry: &Entry) -> Result<()> {
        let snapshot = self.snapshot();
        let other = Kind::all().find_map(|kind| {
            let found = snapshot.shelf(kind).get(&entry.id)?;
            (found.kind != entry.kind || found.name != entry.name).then_some(found)
        });
        if let Some(other) = other {
            return Err(Error::conflict(format!(
                "its id is that of {} `{}`",
                other.kind.singular, other.name
            )));
        }
        let holder = entry.token.and_then(|token| snapshot.token(token));
        match holder.filter(|holder| *holder.name != *entry.name) {
            Some(holder) => Err(Error::conflict(format!("mcptoken `{}` has the same value", holder.name))),
            None => Ok(()),
        }
    }

    /// Commits to the rehearsal.
    async fn stage(&self, who: &Principal, mut draft: Draft<'_>, run: &mut Run) -> Result<()> {
        run.undos.extend(draft.undo.take());
        let (txn, _) = draft.into_txn(who);
        // Unlike a commit that is meant, it need not wait until Llms have their keys.
        match self.inner.store.commit(txn).await? {
            Outcome::Committed(_) => self.refresh().await,
            Outcome::Refused(_) => Err(Error::conflict("it changed meanwhile: try again")),
        }
    }
}

/// Sets what no request may set.
fn set_hashes(entry: &Entry, draft: &mut Draft<'_>) {
    let spec: &mut Spec = &mut draft.next.spec;
    if entry.kind == kinds::USERS {
        match &entry.password_hash {
            Some(hash) => drop(spec.insert(UserSpec::PASSWORD_HASH.into(), hash.as_str().into())),
            None => drop(spec.shift_remove(UserSpec::PASSWORD_HASH)),
        }
    }
    if let Some(token) = entry.token.filter(|_| entry.kind == kinds::MCP_TOKENS) {
        spec.insert(McpTokenSpec::TOKEN_SHA.into(), token.to_hex().into());
    }
}
