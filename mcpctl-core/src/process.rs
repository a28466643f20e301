//! What everything that starts programs shares: the group of processes that a program and its children are.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid};
use tokio::process::Child;

/// The processes of a program that was started as the leader of a group of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group(Pid);

impl Group {
    /// The group of a program that leads one.
    pub(crate) fn of(leader: &Child) -> Option<Self> {
        leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).map(Self)
    }

    /// The number of the group, which is that of its leader.
    #[cfg(feature = "client")]
    pub(crate) fn pid(self) -> Pid {
        self.0
    }

    /// Kills every process of the group.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal to every process of the group.
    pub(crate) fn signal(self, signal: Signal) {
        if let Err(fault) = kill_process_group(self.0, signal) {
            tracing::debug!(%fault, "the group of a program was gone");
        }
    }

    /// How its leader ended; `None` when it has not.
    ///
    /// The leader is not reaped by this: until it is, nobody else gets its number, and its group can be killed.
    ///
    /// # Errors
    ///
    /// It is not a child of this process, or was reaped.
    pub(crate) fn ended(self) -> rustix::io::Result<Option<WaitIdStatus>> {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.0), how)
    }
}
