//! Instructions in user space, counted by callgrind: unlike time, they are the same on a busy machine.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    Result,
    answers::{CHUNKS, Shape},
    build, load,
    scenario::{PLAIN, Scenario},
    targets::{self, Stub, Target},
    translation,
};

/// How often the `micro` bench runs a piece whose instructions are counted.
pub const RUNS: u32 = 100;

/// Whether there is a callgrind.
pub fn available() -> bool {
    ["valgrind", "callgrind_control", "callgrind_annotate"].into_iter().all(|program| {
        let said =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        // That it starts is enough: not all of them succeed in saying their version.
        said.is_ok()
    })
}

/// The table of the instructions of each piece.
///
/// # Errors
///
/// When the bench does not build, or callgrind does not run.
pub fn pieces() -> Result<String> {
    let bench = build::executable("--bench", "micro")?;
    let folder = tempfile::tempdir()?;
    // Counting begins with `counted`, and at its end there is a file per piece.
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args(["--toggle-collect=micro::counted", "--dump-after=micro::counted"])
        .arg(format!("--callgrind-out-file={}", folder.path().join("counts").display()))
        .arg(bench)
        .env("MICRO_ONCE", "1")
        .stderr(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err("the bench `micro` failed under callgrind".into());
    }
    let said = String::from_utf8(output.stdout)?;
    let names = said.lines().skip(2).filter_map(|line| line.split('|').nth(1));
    let mut text = "| piece | instructions |\n| --- | ---: |\n".to_owned();
    for (at, name) in names.enumerate() {
        let counts = fs::read_to_string(folder.path().join(format!("counts.{}", at + 1)))?;
        let total = total(&counts).ok_or("callgrind said no total")?;
        let _ = writeln!(text, "|{name}| {} |", total / u64::from(RUNS));
    }
    Ok(text)
}

/// What callgrind counted in one of its files: at its top for a part, at its end for all.
fn total(counts: &str) -> Option<u64> {
    let number = |line: &str| {
        let number = line.strip_prefix("totals:").or(line.strip_prefix("summary:"))?;
        number.trim().parse::<u64>().ok()
    };
    counts.lines().filter_map(number).max()
}

/// The functions whose instructions, with all that they call, are told apart: what a connection does, and what writes
/// audit events to SQLite.
const HOT_PATH: &str = "mcpctl_server::connection::Server::take";
const WRITER: &str = "mcpctl_core::store::sql::sqlite::queries::append_within";

/// The table of the instructions of a plain request, and of a streamed chunk, in a whole server.
///
/// # Errors
///
/// When the server does not build, or callgrind does not run.
pub fn server(stub: &Stub) -> Result<String> {
    let program = build::server(build::PROFILING)?;
    let joined = Scenario { shape: Shape::Joined, connections: 4, ..PLAIN };
    let each = Scenario { shape: Shape::Each, connections: 4, ..PLAIN };
    let plain = Scenario { connections: 4, ..PLAIN };
    let mut text =
        "| whole server | counted | instructions | of them to answer | of them to write the audit trail |\n\
                    | --- | ---: | ---: | ---: | ---: |\n"
            .to_owned();
    for (scenario, unit, units) in [
        (plain, "a plain request", 1),
        (joined, "a chunk, coalesced", CHUNKS as u64 + 3),
        (each, "a chunk, one write each", CHUNKS as u64 + 3),
    ] {
        let (answers, [all, hot, writer]) = counted(&program, stub, &scenario)?;
        let units = answers * units;
        let [all, hot, writer] = [all, hot, writer].map(|count| count / units);
        let _ = writeln!(text, "| {unit} | {units} | {all} | {hot} | {writer} |");
    }
    for pair in translation::PAIRS {
        for (way, scenario) in pair.ways(Some(4)) {
            let (answers, counts) = counted(&program, stub, &scenario)?;
            let units = answers * pair.units as u64;
            let [all, hot, writer] = counts.map(|count| count / units);
            let _ = writeln!(text, "| {}, {way} | {units} | {all} | {hot} | {writer} |", pair.title);
        }
    }
    Ok(text)
}

/// Runs a scenario on a server under callgrind: the answers, and what was counted in all and in the two functions.
fn counted(program: &Path, stub: &Stub, scenario: &Scenario) -> Result<(u64, [u64; 3])> {
    let (data, counts) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let file = counts.path().join("counts");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--instr-atstart=no"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .stderr(Stdio::null());
    let mut server = targets::start_mcpctl(command, data.path(), &stub.certificate)?;
    server.token = targets::set_up(server.address, stub)?;
    let warm = run(&server, scenario, Duration::from_secs(2))?;
    control(&server, "-i", Some("on"))?;
    let answers = run(&server, scenario, Duration::from_secs(5))?;
    // The audit trail is written a moment later.
    std::thread::sleep(Duration::from_secs(1));
    control(&server, "-i", Some("off"))?;
    drop(server);
    if warm == 0 || answers == 0 {
        return Err("the server answered nothing under callgrind".into());
    }
    let annotate = Command::new("callgrind_annotate")
        .args(["--inclusive=yes", "--threshold=100", "--show-percs=no"])
        .arg(&file)
        .output()?;
    let said = String::from_utf8_lossy(&annotate.stdout).into_owned();
    let all = total(&fs::read_to_string(&file)?).ok_or("callgrind said no total")?;
    let (hot, writer) = (inclusive(&said, HOT_PATH), inclusive(&said, WRITER));
    if hot == 0 || writer == 0 {
        return Err("the server's functions have other names than those that are looked for".into());
    }
    Ok((answers, [all, hot, writer]))
}

fn run(server: &Target, scenario: &Scenario, duration: Duration) -> Result<u64> {
    let outcome = load::run(&scenario.plan(server, duration))?;
    match outcome.first_failure {
        Some(failure) => Err(failure.into()),
        None => Ok(outcome.answers),
    }
}

fn control(server: &Target, option: &str, value: Option<&str>) -> Result<()> {
    let mut command = Command::new("callgrind_control");
    command.arg(option).args(value).arg(server.process().to_string());
    match command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
        true => Ok(()),
        false => Err("callgrind_control does not reach the server".into()),
    }
}

/// The largest inclusive count of a function whose name has this in it: the outermost of its closures.
fn inclusive(annotated: &str, name: &str) -> u64 {
    let counts = annotated.lines().filter(|line| line.contains(name)).filter_map(|line| {
        let number = line.split_whitespace().next()?.replace(',', "");
        number.parse::<u64>().ok()
    });
    counts.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_files_are_read() {
        assert_eq!(total("version: 1\nevents: Ir\nsummary: 0\n\ntotals: 18\n"), Some(18));
        let said =
            "1,234  ???:a::b::{{closure}} [x]\n  2,234  ???:a::b::{{closure}}::{{closure}} [x]\n9  c\n";
        assert_eq!(inclusive(said, "a::b"), 2234);
        assert_eq!(inclusive(said, "d"), 0);
    }
}
