//! The tables.

use std::fmt::Write as _;

use crate::{
    rounds::{Memory, STREAMS, Tally},
    scenario::{Measure, Scenario},
};

/// One scenario's part of the report.
#[derive(Debug)]
pub struct Section {
    /// What was measured.
    pub scenario: Scenario,
    /// The stub, nginx, mcpctl.
    pub tallies: Vec<Tally>,
}

impl Section {
    /// mcpctl's cost divided by nginx's.
    pub fn ratio(&self) -> f64 {
        match self.scenario.measure {
            Measure::Latency => self.added(2) / self.added(1),
            Measure::Requests | Measure::Chunks => self.cost(2) / self.cost(1),
        }
    }

    /// The lowest and the highest ratio of a round.
    fn spread(&self) -> (f64, f64) {
        let [_, nginx, mcpctl] = self.tallies.as_slice() else { return (f64::NAN, f64::NAN) };
        let ratios = mcpctl.per_round.iter().zip(&nginx.per_round).map(|(ours, theirs)| ours / theirs);
        ratios.fold((f64::INFINITY, 0.0), |(low, high), ratio| (low.min(ratio), high.max(ratio)))
    }

    /// Processor seconds per unit.
    fn cost(&self, target: usize) -> f64 {
        let tally = &self.tallies[target];
        tally.cpu / self.scenario.units(tally.answers).0
    }

    /// The median latency above the stub's own, in milliseconds.
    fn added(&self, target: usize) -> f64 {
        self.tallies[target].quantile(0.5) - self.tallies[0].quantile(0.5)
    }

    /// The failures of all targets.
    pub fn failures(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.failures).sum()
    }
}

/// The table of all scenarios. Ratios are mcpctl's cost to nginx's.
pub fn speed(sections: &[Section], names: &[&str]) -> String {
    let mut text =
        "| load | target | requests/s | p50 ms | p99 ms | added p50 ms | CPU s | per | ratio | rounds |\n\
                    | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | --- |\n"
            .to_owned();
    for section in sections {
        for (at, tally) in section.tallies.iter().enumerate() {
            let title = if at == 0 { section.scenario.title } else { "" };
            let (_, unit) = section.scenario.units(0);
            let cost = if at == 0 { "".to_owned() } else { format!("{:.2}", section.cost(at)) };
            let added = if at == 0 { "".to_owned() } else { format!("{:.3}", section.added(at)) };
            let (ratio, spread) = match at {
                2 => {
                    let what = if section.scenario.measure == Measure::Latency { " latency" } else { "" };
                    let (low, high) = section.spread();
                    (format!("**{:.2}**{what}", section.ratio()), format!("CPU {low:.2}–{high:.2}"))
                }
                _ => (String::new(), String::new()),
            };
            let _ = writeln!(
                text,
                "| {title} | {} | {:.0} | {:.3} | {:.3} | {added} | {cost} | {unit} | {ratio} | {spread} |",
                names[at],
                tally.answers as f64 / tally.seconds,
                tally.quantile(0.5),
                tally.quantile(0.99),
            );
        }
    }
    text
}

/// The table of memory.
pub fn memory(seen: &[Memory], names: &[&str], rest: f64) -> String {
    let mut text = format!(
        "| RSS, MiB | idle | {STREAMS} open streams | {rest:.0} s later | KiB per stream |\n\
         | --- | ---: | ---: | ---: | ---: |\n"
    );
    for (memory, name) in seen.iter().zip(names) {
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let each = memory.loaded.saturating_sub(memory.idle) as f64 / 1024.0 / STREAMS as f64;
        let _ = writeln!(
            text,
            "| {name} | {:.1} | {:.1} | {:.1} | {each:.1} |",
            mib(memory.idle),
            mib(memory.loaded),
            mib(memory.after)
        );
    }
    text
}
