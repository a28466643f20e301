//! One process for a name, over all programs of this user: a file with a lock says whose it is and what runs.
//!
//! The lock goes with the program that holds it, however that ends. What it has started ends by itself then; should
//! it not, the next one to take the claim finds it written down, makes sure that it is what it was, and kills it.

use std::{
    fs::{File, OpenOptions, TryLockError, create_dir_all},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    thread::sleep,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The right to run what has this name.
pub(super) struct Claim(Option<File>);

/// What runs.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
pub(super) struct Record {
    /// Its group of processes.
    pub(super) group: i32,
    /// When the leader of that was started, in ticks since the machine was.
    pub(super) started: Option<u64>,
    /// Which start of the machine that was.
    pub(super) boot: Option<String>,
    /// What its processes have as [`MARK`] in their environment, and no others.
    pub(super) mark: String,
}

/// The variable that all processes of one start have.
pub(super) const MARK: &str = "MANAGED_VLLM_RUN";

impl Claim {
    /// Takes the claim of `name`, and kills what is left of its last holder.
    ///
    /// # Errors
    ///
    /// In words: somebody else has it, or the folder cannot be written to.
    pub(super) fn take(folder: Option<&Path>, name: &str) -> Result<Self, String> {
        let Some(folder) = folder else { return Ok(Self(None)) };
        let path = folder.join(format!("{name}.json"));
        let told = |fault: io::Error| format!("{} cannot be written: {fault}", path.display());
        create_dir_all(folder).map_err(told)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(told)?;
        let mut tries = 0;
        while let Err(fault) = file.try_lock() {
            match fault {
                // A program that is just being started has what this one has, for a moment.
                TryLockError::WouldBlock if tries < 20 => sleep(Duration::from_millis(10)),
                TryLockError::WouldBlock => {
                    return Err("another program of yours runs it already (`mcpctl proxy`?)".to_owned());
                }
                TryLockError::Error(fault) => return Err(told(fault)),
            }
            tries += 1;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(told)?;
        if let Ok(record) = serde_json::from_str::<Record>(&text)
            && system::is_left(&record)
        {
            tracing::warn!(name, group = record.group, "what a killed program left running is killed");
            system::kill(&record);
        }
        let claim = Self(Some(file));
        claim.write("").map_err(told)?;
        Ok(claim)
    }

    /// Writes down what was started.
    pub(super) fn note(&self, group: i32, mark: &str) -> io::Result<()> {
        let record =
            Record { group, started: system::started(group), boot: system::boot(), mark: mark.to_owned() };
        self.write(&serde_json::to_string(&record).map_err(io::Error::other)?)
    }

    /// Nothing runs any more.
    pub(super) fn clear(&self) {
        if let Err(fault) = self.write("") {
            tracing::warn!(%fault, "it could not be written down that a vLLM was stopped");
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let Some(mut file) = self.0.as_ref() else { return Ok(()) };
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(text.as_bytes())
    }
}

#[cfg(target_os = "linux")]
pub(super) mod system {
    //! What Linux tells about processes.

    use std::{
        collections::BTreeSet,
        ffi::OsStr,
        fs,
        net::SocketAddr,
        thread::sleep,
        time::{Duration, Instant},
    };

    use procfs::{
        net::TcpState,
        process::{FDTarget, Process, all_processes},
    };
    use rustix::process::{Pid, Signal, kill_process_group};

    use super::{MARK, Record};

    /// The processes of a group that live.
    fn members(group: i32) -> impl Iterator<Item = Process> {
        let all = all_processes().into_iter().flatten().flatten();
        all.filter(move |process| {
            process.stat().is_ok_and(|stat| stat.pgrp == group && !matches!(stat.state, 'Z' | 'X'))
        })
    }

    /// Whether any process of a group lives.
    pub(in crate::failover::managed) fn is_alive(group: i32) -> bool {
        members(group).next().is_some()
    }

    pub(super) fn started(leader: i32) -> Option<u64> {
        Process::new(leader).and_then(|process| process.stat()).ok().map(|stat| stat.starttime)
    }

    pub(super) fn boot() -> Option<String> {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
    }

    /// Whether what was written down runs: a group of that number, and one of its processes is surely of that start.
    /// Numbers are used again.
    pub(super) fn is_left(record: &Record) -> bool {
        if record.group <= 1 || record.boot != boot() {
            return false;
        }
        let is_marked = |process: &Process| {
            let environment = process.environ().unwrap_or_default();
            environment.get(OsStr::new(MARK)).is_some_and(|mark| mark == record.mark.as_str())
        };
        let is_leader = |process: &Process| {
            process.pid() == record.group
                && record.started.is_some()
                && started(record.group) == record.started
        };
        members(record.group).any(|process| is_leader(&process) || is_marked(&process))
    }

    pub(super) fn kill(record: &Record) {
        if let Some(group) = Pid::from_raw(record.group)
            && let Err(fault) = kill_process_group(group, Signal::KILL)
        {
            tracing::warn!(%fault, "what was left running could not be killed");
        }
        // Its port is free when it is gone.
        let until = Instant::now() + Duration::from_secs(2);
        while is_alive(record.group) && Instant::now() < until {
            sleep(Duration::from_millis(5));
        }
    }

    /// Whether a process of the group listens at `address`; `None` when that cannot be found out.
    pub(in crate::failover::managed) fn listens(group: i32, address: SocketAddr) -> Option<bool> {
        let sockets = procfs::net::tcp().ok()?;
        let listening = sockets
            .iter()
            .filter(|socket| socket.local_address == address && socket.state == TcpState::Listen);
        let listening: BTreeSet<u64> = listening.map(|socket| socket.inode).collect();
        if listening.is_empty() {
            return None;
        }
        for process in members(group) {
            // What may not be looked into may be the one.
            let files = process.fd().ok()?;
            let is_it = |target| matches!(target, FDTarget::Socket(inode) if listening.contains(&inode));
            if files.flatten().any(|file| is_it(file.target)) {
                return Some(true);
            }
        }
        Some(false)
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) mod system {
    //! Other systems do not tell, so nothing is killed on suspicion.

    use std::net::SocketAddr;

    use super::Record;

    pub(in crate::failover::managed) fn is_alive(_group: i32) -> bool {
        true
    }

    pub(super) fn started(_leader: i32) -> Option<u64> {
        None
    }

    pub(super) fn boot() -> Option<String> {
        None
    }

    pub(super) fn is_left(_record: &Record) -> bool {
        false
    }

    pub(super) fn kill(_record: &Record) {}

    pub(in crate::failover::managed) fn listens(_group: i32, _address: SocketAddr) -> Option<bool> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt as _, process::Command};

    use super::*;

    #[test]
    fn a_name_is_claimed_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = Claim::take(Some(folder.path()), "local").unwrap();
        assert!(Claim::take(Some(folder.path()), "local").err().unwrap().contains("already"));
        assert!(Claim::take(Some(folder.path()), "other").is_ok());
        drop(first);
        assert!(Claim::take(Some(folder.path()), "local").is_ok());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_left_is_killed_and_a_stranger_with_its_number_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let start = || Command::new("sleep").arg("60").env(MARK, "run-1").process_group(0).spawn().unwrap();
        let (mut left, mut stranger) = (start(), start());
        let take = || Claim::take(Some(folder.path()), "local").unwrap();
        let record = |child: &std::process::Child, mark: &str, started| Record {
            group: i32::try_from(child.id()).unwrap(),
            started,
            boot: system::boot(),
            mark: mark.to_owned(),
        };
        for wrong in [
            record(&stranger, "run-2", None),
            record(&stranger, "run-2", Some(1)),
            Record { boot: Some("another".to_owned()), ..record(&stranger, "run-1", None) },
        ] {
            take().write(&serde_json::to_string(&wrong).unwrap()).unwrap();
            drop(take());
            assert!(stranger.try_wait().unwrap().is_none(), "{wrong:?}");
        }
        take().write(&serde_json::to_string(&record(&left, "run-1", None)).unwrap()).unwrap();
        drop(take());
        assert!(!left.wait().unwrap().success());
        let known = take();
        known.note(i32::try_from(stranger.id()).unwrap(), "not in its environment").unwrap();
        drop(known);
        drop(take());
        assert!(!stranger.wait().unwrap().success());
    }
}
