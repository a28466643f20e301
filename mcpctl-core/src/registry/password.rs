//! A user changes their own password.

use serde_json::json;

use super::{LoggedIn, Origin, Registry};
use crate::{
    auth::Principal,
    error::{Error, ErrorKind, Result},
    resource::kinds,
    secret::SecretValue,
};

impl Registry {
    /// Sets the password of the user who asks, in person and knowing the present one. It needs no permission. All
    /// of the user's sessions end; the answer is a new one.
    ///
    /// # Errors
    ///
    /// Forbidden, for an McpToken, for somebody who acts for the user, and when `current` is wrong; rate limited,
    /// together with logins; invalid, when the new one will not do; conflict, when the account changes meanwhile.
    pub async fn change_password(
        &self,
        who: &Principal,
        current: SecretValue,
        new: SecretValue,
        origin: Origin<'_>,
    ) -> Result<LoggedIn> {
        let forbidden = |message: &'static str| Error::new(ErrorKind::Forbidden, message);
        let user = self.user_of(who).filter(|user| who.is_in_person(&user.id));
        let user =
            user.ok_or_else(|| forbidden("only users themselves may change their password: log in"))?;
        let owner =
            self.owner(&user.name, current, origin.address).await?.filter(|owner| owner.id == user.id);
        let user = owner.ok_or_else(|| forbidden("the current password is wrong"))?;
        let body = json!({"password": new.expose()});
        let reading = kinds::USERS.read_put(&user, body.as_object().cloned().unwrap_or_default())?;
        let draft = self.draft(who, kinds::USERS, Some(&user), &user.name, reading).await?;
        if !draft.is_empty() {
            let (txn, _) = draft.into_txn(who);
            if self.commit(txn).await?.is_some() {
                return Err(Error::conflict("the account changed meanwhile: try again"));
            }
        }
        self.login(&user.name, new, origin).await
    }
}
