//! `fuzz` runs the targets on damaged cases of the golden corpus. `make fuzz` starts it.

use std::{
    num::NonZero,
    panic,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use fuzzing::{TARGETS, Target, mutate::Mutator, seeds::Seeds};

/// An input that takes longer has failed: the longest ones take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs every target on many inputs; the same seed gives the same ones.
#[derive(Debug, Parser)]
struct Options {
    /// How many inputs, all targets together
    #[arg(long, default_value_t = 10_000_000)]
    inputs: u64,

    /// The seed; by default another one each time
    #[arg(long)]
    seed: Option<u64>,

    /// Only the targets whose name contains this
    #[arg(long, default_value = "")]
    target: String,

    /// Only this input of the target, which is printed
    #[arg(long)]
    index: Option<u64>,

    /// Threads
    #[arg(long, default_value = "2")]
    threads: NonZero<usize>,
}

/// What a target's run came to.
struct Tally {
    name: &'static str,
    inputs: u64,
    took: Duration,
    slowest: (Duration, u64),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or(now.as_secs());
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|target| target.name.contains(&options.target)).collect();
    let seeds = Seeds::read();
    if targets.is_empty() {
        eprintln!("error: no target of this name; there are:");
        TARGETS.iter().for_each(|target| eprintln!("  {}", target.name));
        return ExitCode::FAILURE;
    }
    if let Some(index) = options.index {
        for target in targets {
            let input = Mutator::new(&seeds, target).input(seed, index);
            println!("{}, input {index} of seed {seed}: {}", target.name, String::from_utf8_lossy(&input));
            (target.run)(&input);
        }
        return ExitCode::SUCCESS;
    }
    let each = options.inputs.div_ceil(targets.len() as u64);
    println!("seed {seed}: {each} inputs for each of {} targets", targets.len());
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let tallies = Mutex::new(Vec::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.get() {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match work(target, &seeds, seed, each) {
                        Ok(tally) => tallies.lock().unwrap().push(tally),
                        Err(()) => failed.store(true, Ordering::Relaxed),
                    }
                }
            });
        }
    });
    let tallies = tallies.into_inner().unwrap();
    println!("| target | inputs | seconds | µs each | slowest, ms | its index |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for Tally { name, inputs, took, slowest: (longest, index) } in &tallies {
        let (seconds, longest) = (took.as_secs_f64(), longest.as_secs_f64() * 1e3);
        let each = seconds * 1e6 / *inputs as f64;
        println!("| {name} | {inputs} | {seconds:.1} | {each:.1} | {longest:.1} | {index} |");
    }
    let inputs: u64 = tallies.iter().map(|tally| tally.inputs).sum();
    println!("{inputs} inputs in {:.1} s, seed {seed}", began.elapsed().as_secs_f64());
    if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs a target until its inputs are over or it fails; what it says then is on stderr already.
fn work(target: &Target, seeds: &Seeds, seed: u64, inputs: u64) -> Result<Tally, ()> {
    let mutator = Mutator::new(seeds, target);
    let began = Instant::now();
    let mut slowest = (Duration::ZERO, 0);
    for index in 0..inputs {
        let input = mutator.input(seed, index);
        let start = Instant::now();
        let outcome = panic::catch_unwind(|| (target.run)(&input));
        let took = start.elapsed();
        slowest = slowest.max((took, index));
        if outcome.is_err() || took > PATIENCE {
            let what = if outcome.is_err() { "failed" } else { "took too long" };
            eprintln!(
                "{} {what} after {took:?}; again: fuzz --target {} --seed {seed} --index {index}",
                target.name, target.name
            );
            return Err(());
        }
    }
    Ok(Tally { name: target.name, inputs, took: began.elapsed(), slowest })
}
