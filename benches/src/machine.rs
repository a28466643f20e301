//! The machine that measures.

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};

/// The machine in one line: cores, processor, kernel, memory.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let gib =
        memory.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() / 1048576.0;
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} cores ({model}), {gib:.0} GiB, Linux {}", cores(), kernel.trim())
}

/// The cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The load of the last minute, divided by the cores: much over 0 before a run means others work here too.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    load / cores() as f64
}

/// Raises the limit of open files of this process, which those that it starts inherit, as far as it may be raised;
/// says what it is.
pub fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What could not be raised shows in the answer.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
