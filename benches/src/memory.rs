//! Resident memory: of a server that has nothing to do, of open streams, and of what is left of them.

use std::{
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Result,
    answers::Shape,
    load::{Held, Plan},
    scenario::{PLAIN, Scenario},
    targets::{self, AccessLog, Stub, Target},
};

/// Streams that are open at once when the memory of each is measured.
pub const STREAMS: usize = 1000;
/// Streams of the burst that is looked back at.
pub const BURST: usize = 5000;
/// Open files that a target needs for the burst: two per stream, and some of its own.
pub const OPEN_FILES: u64 = 2 * BURST as u64 + 500;

/// What mcpctl may hold when it has nothing to do, in MiB.
pub const IDLE_LIMIT: f64 = 20.0;
/// What mcpctl may hold per open stream, in KiB.
pub const STREAM_LIMIT: f64 = 40.0;
/// What mcpctl may hold some time after the burst, to what it held when it had nothing to do.
pub const AFTER_LIMIT: f64 = 1.5;

/// How long memory must not have fallen to count as settled, and how long that is waited for.
const SETTLED: Duration = Duration::from_secs(2);
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// How long all streams may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);
/// How long streams are left open before memory is looked at: several events of each have passed then.
const OPEN_FOR: Duration = Duration::from_secs(2);

/// The resident memory of a target, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The target's name.
    pub name: &'static str,
    /// After its first start; `None` when it keeps nothing from one start to the next.
    pub first: Option<u64>,
    /// After the start that the rest is measured on.
    pub idle: u64,
    /// With [`STREAMS`] streams open.
    pub loaded: u64,
    /// With [`BURST`] streams open.
    pub burst: u64,
    /// Some time after they were closed.
    pub after: u64,
}

impl Memory {
    /// KiB per open stream.
    pub fn per_stream(&self) -> f64 {
        self.loaded.saturating_sub(self.idle) as f64 / 1024.0 / STREAMS as f64
    }

    /// What was left after the burst, to what there was before anything.
    pub fn ratio(&self) -> f64 {
        self.after as f64 / self.idle as f64
    }

    /// What is over the limits, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let starts = [("first", self.first), ("second", Some(self.idle))];
        for (which, bytes) in starts.into_iter().filter_map(|(which, bytes)| Some((which, bytes?))) {
            if mib(bytes) > IDLE_LIMIT {
                faults.push(format!(
                    "{:.1} MiB after the {which} start; at most {IDLE_LIMIT} are wanted",
                    mib(bytes)
                ));
            }
        }
        if self.per_stream() > STREAM_LIMIT {
            let each = self.per_stream();
            faults.push(format!("{each:.1} KiB per open stream; at most {STREAM_LIMIT} are wanted"));
        }
        if self.ratio() > AFTER_LIMIT {
            let ratio = self.ratio();
            faults.push(format!("{ratio:.2} times idle after the burst; at most {AFTER_LIMIT} is wanted"));
        }
        faults
    }
}

/// Bytes in MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Measures nginx and mcpctl, each in fresh processes. After the burst it waits for `rest`.
///
/// # Errors
///
/// When a target does not start, or a stream fails.
pub fn measure(server: &Path, stub: &Stub, rest: Duration) -> Result<Vec<Memory>> {
    let nginx = targets::nginx(stub, AccessLog::Off)?;
    let mut seen = vec![Memory { name: nginx.name, idle: settle(&nginx)?, ..Memory::default() }];
    let folder = tempfile::tempdir()?;
    let start = || targets::start_mcpctl(Command::new(server), folder.path(), &stub.certificate);
    let first_start = start()?;
    let first = Some(settle(&first_start)?);
    let token = targets::set_up(first_start.address, stub)?;
    drop(first_start);
    let mut mcpctl = start()?;
    mcpctl.token = token;
    seen.push(Memory { name: mcpctl.name, first, idle: settle(&mcpctl)?, ..Memory::default() });
    let all = [&nginx, &mcpctl];
    for (target, memory) in all.iter().zip(&mut seen) {
        memory.loaded = with_streams(target, STREAMS)?;
    }
    for (target, memory) in all.iter().zip(&mut seen) {
        memory.burst = with_streams(target, BURST)?;
    }
    sleep(rest);
    for (target, memory) in all.iter().zip(&mut seen) {
        memory.after = target.family.resident()?;
    }
    Ok(seen)
}

/// Waits until a target has given back what its start took, and says what it holds then.
fn settle(target: &Target) -> Result<u64> {
    let began = Instant::now();
    let (mut least, mut since) = (target.family.resident()?, began);
    while since.elapsed() < SETTLED && began.elapsed() < SETTLE_WITHIN {
        sleep(Duration::from_millis(100));
        let now = target.family.resident()?;
        if now < least {
            (least, since) = (now, Instant::now());
        }
    }
    target.family.resident()
}

/// What a target holds with so many streams open.
fn with_streams(target: &Target, streams: usize) -> Result<u64> {
    let slow = Scenario { shape: Shape::Slow, connections: streams, ..PLAIN };
    let held = Held::open(Plan { ..slow.plan(target, Duration::ZERO) });
    let begun = held.wait(BEGIN_WITHIN);
    sleep(OPEN_FOR);
    let loaded = target.family.resident()?;
    match held.close()?.first_failure {
        Some(failure) => Err(format!("{}, {streams} streams: {failure}", target.name).into()),
        None if begun < streams => {
            Err(format!("{}: only {begun} of {streams} streams began", target.name).into())
        }
        None => Ok(loaded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_held_against_its_figure() {
        let mib = |mib: u64| mib << 20;
        let fine = Memory {
            name: "mcpctl",
            first: Some(mib(20)),
            idle: mib(10),
            loaded: mib(10) + 40 * 1024 * STREAMS as u64,
            burst: mib(200),
            after: mib(15),
        };
        assert!(fine.faults().is_empty(), "{:?}", fine.faults());
        assert_eq!(Memory { first: Some(mib(21)), ..fine }.faults().len(), 1);
        assert_eq!(Memory { loaded: mib(60), ..fine }.faults().len(), 1);
        assert_eq!(Memory { after: mib(16), ..fine }.faults().len(), 1);
        assert_eq!(Memory { idle: mib(21), first: None, ..fine }.faults().len(), 1);
    }
}
