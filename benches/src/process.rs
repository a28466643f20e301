//! What a process costs, as the system counts it.

use std::{fs, time::Duration};

use crate::Result;

/// A process and its children: nginx works in children.
#[derive(Clone, Debug)]
pub struct Family(Vec<u32>);

/// `/proc/PID/stat` counts in hundredths of a second on every Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

impl Family {
    /// The process of this id, with the children it has now.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub fn of(parent: u32) -> Result<Self> {
        let mut all = vec![parent];
        for entry in fs::read_dir("/proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process may have ended since it was listed.
            if stat(id).is_ok_and(|fields| fields.get(1) == Some(&u64::from(parent).to_string())) {
                all.push(id);
            }
        }
        Ok(Self(all))
    }

    /// The processor time used so far, in user and system mode.
    ///
    /// # Errors
    ///
    /// When one of the processes has ended.
    pub fn cpu(&self) -> Result<Duration> {
        let mut ticks = 0;
        for id in &self.0 {
            let fields = stat(*id)?;
            for field in [11, 12] {
                ticks += fields.get(field).ok_or("a short /proc/PID/stat")?.parse::<u64>()?;
            }
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// The memory that is resident now, in bytes; pages that several processes share count in each.
    ///
    /// # Errors
    ///
    /// When one of the processes has ended.
    pub fn resident(&self) -> Result<u64> {
        let mut bytes = 0;
        for id in &self.0 {
            let status = fs::read_to_string(format!("/proc/{id}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kilobytes = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
            bytes += kilobytes.parse::<u64>()? * 1024;
        }
        Ok(bytes)
    }
}

/// The fields of `/proc/PID/stat` from the state on: the name before them may hold anything.
fn stat(id: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, fields) = text.rsplit_once(')').ok_or("an odd /proc/PID/stat")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}
