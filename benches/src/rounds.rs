//! Alternating rounds: what disturbs the machine disturbs all targets alike.

use std::{thread::sleep, time::Duration};

use crate::{
    Result,
    answers::Shape,
    load::{self, Held, Outcome, Plan},
    scenario::{Measure, Scenario},
    targets::Target,
};

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often every target has its turn in a scenario.
    pub rounds: usize,
    /// How long a turn is.
    pub turn: Duration,
    /// How long to wait after the load before memory is looked at again.
    pub rest: Duration,
}

/// All turns of one target in one scenario.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Right answers.
    pub answers: u64,
    /// Wrong ones.
    pub failures: u64,
    /// The first that was wrong, in words.
    pub first_failure: Option<String>,
    /// Seconds of load.
    pub seconds: f64,
    /// Processor seconds of the target.
    pub cpu: f64,
    /// Latencies in nanoseconds, sorted once all rounds are over.
    pub latencies: Vec<u64>,
    /// Processor time per unit of the scenario, a number per round.
    pub per_round: Vec<f64>,
}

impl Tally {
    fn add(&mut self, outcome: Outcome, cpu: f64, units: f64) {
        self.answers += outcome.answers;
        self.failures += outcome.failures;
        self.first_failure = self.first_failure.take().or(outcome.first_failure);
        self.seconds += outcome.elapsed.as_secs_f64();
        self.cpu += cpu;
        self.latencies.extend(outcome.latencies);
        self.per_round.push(cpu / units);
    }

    /// The latency that this part of the answers stayed below, in milliseconds.
    pub fn quantile(&self, part: f64) -> f64 {
        let at = ((self.latencies.len() as f64 * part) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
    }
}

/// Measures a scenario: a tally per target, in their order.
///
/// # Errors
///
/// When a target has ended.
pub fn measure(scenario: &Scenario, targets: &[&Target], effort: Effort) -> Result<Vec<Tally>> {
    let mut tallies = vec![Tally::default(); targets.len()];
    for round in 0..effort.rounds {
        for turn in 0..targets.len() {
            // Another one begins in every round.
            let at = (turn + round) % targets.len();
            let target = targets[at];
            // The stub alone says what latency is not the proxies'; once is enough where that is not compared.
            let is_reference = at == 0 && scenario.measure != Measure::Latency && scenario.rate.is_none();
            if is_reference && round > 0 {
                continue;
            }
            let before = target.family.cpu()?;
            let outcome = load::run(&scenario.plan(target, effort.turn))?;
            // What is done behind the answer, such as an audit trail, is part of its cost.
            sleep(Duration::from_millis(200));
            let cpu = (target.family.cpu()? - before).as_secs_f64();
            let (units, _) = scenario.units(outcome.answers);
            tallies[at].add(outcome, cpu, units);
        }
    }
    for tally in &mut tallies {
        tally.latencies.sort_unstable();
    }
    Ok(tallies)
}

/// Calls every target a little, so that nobody pays for the first call.
///
/// # Errors
///
/// When a target does not answer rightly.
pub fn warm_up(scenarios: &[Scenario], targets: &[&Target]) -> Result<()> {
    for scenario in scenarios {
        for target in targets {
            let mut plan = scenario.plan(target, Duration::from_millis(50));
            plan.rate = None;
            let outcome = load::run(&plan)?;
            if let Some(failure) = outcome.first_failure {
                return Err(format!("{}, {}: {failure}", target.name, scenario.title).into());
            }
        }
    }
    Ok(())
}

/// The resident memory of a target, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Before any call.
    pub idle: u64,
    /// With [`STREAMS`] streams open.
    pub loaded: u64,
    /// Some time after they were closed.
    pub after: u64,
}

/// Streams that are open at once when memory is measured.
pub const STREAMS: usize = 1000;

/// Looks at the targets' memory with many streams open, and after a rest. `idle` is what was seen at the start.
///
/// # Errors
///
/// When a stream fails.
pub fn memory(targets: &[&Target], idle: &[u64], rest: Duration) -> Result<Vec<Memory>> {
    let slow = Scenario { shape: Shape::Slow, connections: STREAMS, rate: None, ..crate::scenario::ALL[0] };
    let mut seen = Vec::new();
    for (target, idle) in targets.iter().zip(idle) {
        let held = Held::open(Plan { ..slow.plan(target, Duration::ZERO) });
        sleep(Duration::from_secs(3));
        let loaded = target.family.resident()?;
        if let Some(failure) = held.close()?.first_failure {
            return Err(format!("{}, {STREAMS} streams: {failure}", target.name).into());
        }
        seen.push(Memory { idle: *idle, loaded, after: 0 });
    }
    sleep(rest);
    for (target, memory) in targets.iter().zip(&mut seen) {
        memory.after = target.family.resident()?;
    }
    Ok(seen)
}
