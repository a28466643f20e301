//! The tables.

use std::{fmt::Write as _, path::Path};

use crate::{
    Result,
    memory::{self, BURST, Memory, STREAMS, mib},
    pieces::Piece,
    rounds::Tally,
    scenario::{Measure, Scenario},
};

/// One scenario's part of the report.
#[derive(Debug)]
pub struct Section {
    /// What was measured.
    pub scenario: Scenario,
    /// The stub, nginx, mcpctl, and variants of the latter two.
    pub tallies: Vec<Tally>,
}

/// Where in a section the targets are that are compared.
const STUB: usize = 0;
const NGINX: usize = 1;
const MCPCTL: usize = 2;

impl Section {
    /// mcpctl's cost divided by nginx's.
    pub fn ratio(&self) -> f64 {
        self.ratio_of(MCPCTL)
    }

    fn ratio_of(&self, target: usize) -> f64 {
        match self.scenario.measure {
            Measure::Latency => self.added(target) / self.added(NGINX),
            Measure::Requests | Measure::Chunks => self.cost(target) / self.cost(NGINX),
        }
    }

    /// The lowest and the highest ratio of a round.
    fn spread(&self) -> (f64, f64) {
        let [_, nginx, mcpctl, ..] = self.tallies.as_slice() else { return (f64::NAN, f64::NAN) };
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
        self.tallies[target].quantile(0.5) - self.tallies[STUB].quantile(0.5)
    }

    /// mcpctl's processor time per request, in nanoseconds.
    pub fn nanos_per_request(&self) -> f64 {
        let tally = &self.tallies[MCPCTL];
        tally.cpu * 1e9 / tally.answers as f64
    }

    /// What is over the limit, in words.
    pub fn fault(&self) -> Option<String> {
        let (ratio, limit) = (self.ratio(), self.scenario.limit?);
        // A ratio that is no number is no proof either.
        let fine = ratio <= limit;
        (!fine).then(|| format!("{}: {ratio:.2} times nginx's cost; at most {limit}", self.scenario.title))
    }
}

/// The table of all scenarios. Ratios are to nginx's cost.
pub fn speed(sections: &[Section]) -> String {
    let mut text =
        "| load | target | requests/s | p50 ms | p99 ms | added p50 ms | CPU s | per | of nginx | at most | rounds |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | --- |\n"
            .to_owned();
    for section in sections {
        let Scenario { title, measure, limit, .. } = section.scenario;
        let (_, unit) = section.scenario.units(0);
        for (at, tally) in section.tallies.iter().enumerate() {
            let title = if at == STUB { title } else { "" };
            let (cost, added) = match at {
                STUB => (String::new(), String::new()),
                _ => (format!("{:.2}", section.cost(at)), format!("{:.3}", section.added(at))),
            };
            let what = if measure == Measure::Latency { " latency" } else { "" };
            let (ratio, limit, spread) = match at {
                STUB | NGINX => (String::new(), String::new(), String::new()),
                MCPCTL => {
                    let (low, high) = section.spread();
                    let limit = limit.map(|limit| limit.to_string()).unwrap_or_default();
                    (format!("**{:.2}**{what}", section.ratio()), limit, format!("CPU {low:.2}–{high:.2}"))
                }
                _ => (format!("{:.2}{what}", section.ratio_of(at)), String::new(), String::new()),
            };
            let _ = writeln!(
                text,
                "| {title} | {} | {:.0} | {:.3} | {:.3} | {added} | {cost} | {unit} | {ratio} | {limit} | {spread} |",
                tally.name,
                tally.answers as f64 / tally.seconds,
                tally.quantile(0.5),
                tally.quantile(0.99),
            );
        }
    }
    text
}

/// The table of memory, looked at `rest` seconds after the burst.
pub fn memory(seen: &[Memory], rest: f64) -> String {
    let mut text = format!(
        "| RSS, MiB | first start | second start | {STREAMS} open streams | KiB per stream | {BURST} open streams \
         | {rest:.0} s later | of idle |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for memory in seen {
        let first = memory.first.map(|bytes| format!("{:.1}", mib(bytes))).unwrap_or_default();
        let [idle, loaded, burst, after] = [memory.idle, memory.loaded, memory.burst, memory.after]
            .map(|bytes| format!("{:.1}", mib(bytes)));
        let (each, ratio) = (memory.per_stream(), memory.ratio());
        let name = memory.name;
        let _ = writeln!(
            text,
            "| {name} | {first} | {idle} | {loaded} | {each:.1} | {burst} | {after} | {ratio:.2} |"
        );
    }
    let (idle, each, after) = (memory::IDLE_LIMIT, memory::STREAM_LIMIT, memory::AFTER_LIMIT);
    let _ = writeln!(text, "| at most | {idle} | {idle} | | {each} | | | {after} |");
    text
}

/// The table of what a request's time goes to. `whole` is the processor time of a plain request, in nanoseconds, where
/// it was measured.
pub fn pieces(pieces: &[Piece], whole: Option<f64>) -> String {
    let mut text = "| where a request's time goes | µs | CPU s per 10 k requests | of a plain request |\n\
                    | --- | ---: | ---: | ---: |\n"
        .to_owned();
    let mut line = |name: &str, nanos: f64| {
        let part = whole.map(|whole| format!("{:.1} %", nanos * 100.0 / whole)).unwrap_or_default();
        let _ = writeln!(text, "| {name} | {:.2} | {:.4} | {part} |", nanos / 1e3, nanos / 1e5);
    };
    for piece in pieces {
        line(piece.title, piece.nanos);
    }
    if let Some(whole) = whole {
        let known: f64 = pieces.iter().map(|piece| piece.nanos).sum();
        line("the rest: HTTP on both sides, sockets, the system", whole - known);
        line("a plain request, 64 connections", whole);
    }
    text
}

/// Where a report begins and ends in a document.
const MARKERS: [&str; 2] = ["<!-- figures: begin -->", "<!-- figures: end -->"];

/// Puts a report between the two markers of a document, in the place of the last one.
///
/// # Errors
///
/// When the file cannot be read or written, or has no markers.
pub fn write(path: &Path, report: &str) -> Result<()> {
    let document = std::fs::read_to_string(path)?;
    let [begin, end] = MARKERS;
    let replaced = replace(&document, report);
    let document = replaced.ok_or_else(|| format!("{} needs `{begin}` and `{end}`", path.display()))?;
    Ok(std::fs::write(path, document)?)
}

fn replace(document: &str, report: &str) -> Option<String> {
    let [begin, end] = MARKERS;
    let (before, rest) = document.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", report.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_takes_the_place_of_the_last_one() {
        let [begin, end] = MARKERS;
        let document = format!("# Title\n\n{begin}\n{end}\n\nMore.\n");
        let once = replace(&document, "\n| table |\n").unwrap();
        assert_eq!(once, format!("# Title\n\n{begin}\n\n| table |\n\n{end}\n\nMore.\n"));
        assert_eq!(replace(&once, "| table |").unwrap(), once);
        assert!(replace("no markers", "x").is_none());
        assert!(replace(&format!("{end}{begin}"), "x").is_none());
    }
}
