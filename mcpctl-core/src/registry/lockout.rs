//! Somebody must always be able to say who may do what: the change that would lock everybody out is refused.

use tokio::task::spawn_blocking;

use super::{Registry, Snapshot};
use crate::{
    error::{Error, Result},
    rbac::{Action, Permission},
    resource::{Kind, kinds},
    store::{Changes, Condition, ObjectChange, Txn, Write},
};

/// The kinds that decide who may do what.
const DECIDING: [Kind; 3] = [kinds::RBAC, kinds::GROUPS, kinds::USERS];

impl Registry {
    /// Refuses a change after which no user could edit RBAC definitions any more, where one could before. There is no
    /// way back from that: nobody could grant anything to anybody.
    ///
    /// # Errors
    ///
    /// Conflict.
    pub(super) async fn guard_lockout(&self, txn: &mut Txn) -> Result<()> {
        let takes_away = |write: &Write| match write {
            Write::Put(object) => DECIDING.contains(&object.kind),
            Write::Delete { kind, .. } => DECIDING.contains(kind),
            _ => false,
        };
        if !txn.writes.iter().any(takes_away) {
            return Ok(());
        }
        self.refresh().await?;
        let before = self.snapshot();
        let revision = before.revision();
        let change = |write: &Write| match write {
            Write::Put(object) => Some(ObjectChange::Put(object.clone())),
            Write::Delete { kind, id } => Some(ObjectChange::Deleted { kind: *kind, id: id.clone() }),
            _ => None,
        };
        let objects = txn.writes.iter().filter_map(change).collect();
        let locked_out = spawn_blocking(move || {
            let changes = Changes::All { revision, objects, sessions: Vec::new() };
            let after = before.with(changes);
            after.is_some_and(|after| is_manageable(&before) && !is_manageable(&after))
        });
        if locked_out.await.map_err(Error::internal)? {
            return Err(Error::conflict(
                "nobody could edit rbac definitions any more, nor undo this: give another user `edit` on rbac first",
            ));
        }
        // Else two of these could take the last two away at once.
        let unchanged = |kind| Condition::KindUnchanged { kind, since: revision };
        txn.conditions.extend(DECIDING.map(unchanged));
        Ok(())
    }
}

/// Whether some user may edit RBAC definitions.
fn is_manageable(snapshot: &Snapshot) -> bool {
    let edit = Permission::Kind(Action::Edit, kinds::RBAC);
    let may = |id| snapshot.policy().grants(id).decide(&edit).allowed();
    snapshot.shelf(kinds::USERS).after(None).any(|user| may(&user.id))
}
