//! Alternating rounds: what disturbs the machine disturbs all targets alike.

use std::{thread::sleep, time::Duration};

use crate::{
    Result,
    load::{self, Outcome},
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
}

/// All turns of one target in one scenario.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The target's name.
    pub name: &'static str,
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
    let mut tallies: Vec<Tally> =
        targets.iter().map(|target| Tally { name: target.name, ..Tally::default() }).collect();
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
pub fn warm_up(scenario: &Scenario, targets: &[&Target]) -> Result<()> {
    for target in targets {
        let mut plan = scenario.plan(target, Duration::from_millis(50));
        plan.rate = None;
        let outcome = load::run(&plan)?;
        if let Some(failure) = outcome.first_failure {
            return Err(format!("{}, {}: {failure}", target.name, scenario.title).into());
        }
    }
    Ok(())
}
