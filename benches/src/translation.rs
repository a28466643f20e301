//! What it costs to translate: the same chat through one server, to a provider of OpenAI's format and to one of
//! Anthropic's.

use std::{fmt::Write as _, thread::sleep, time::Duration};

use crate::{
    Result,
    answers::{CHUNKS, Shape},
    load,
    rounds::Effort,
    scenario::{PLAIN, Scenario},
    targets::Target,
};

/// The most that translation may cost of passing through.
pub const LIMIT: f64 = 2.0;

/// A chat that is asked in both ways.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// What is counted.
    pub title: &'static str,
    /// How many of these an answer is.
    pub units: usize,
    passed: Scenario,
    translated: Scenario,
}

const CHAT: Scenario = Scenario { title: "a request, 2 KB", body: 2048, ..PLAIN };
const STREAM: Scenario = Scenario { title: "a chunk, coalesced", connections: 16, ..CHAT };
const EACH: Scenario = Scenario { title: "a chunk, one write each", ..CHAT };

/// All pairs.
pub const PAIRS: [Pair; 3] = [
    pair(CHAT, Shape::Plain, Shape::Message, 1),
    pair(STREAM, Shape::Joined, Shape::MessageJoined, CHUNKS),
    pair(EACH, Shape::Each, Shape::MessageEach, CHUNKS),
];

const fn pair(of: Scenario, passed: Shape, translated: Shape, units: usize) -> Pair {
    Pair {
        title: of.title,
        units,
        passed: Scenario { shape: passed, ..of },
        translated: Scenario { shape: translated, ..of },
    }
}

impl Pair {
    /// Both ways, with so many connections, or as many as it has.
    pub fn ways(&self, connections: Option<usize>) -> [(&'static str, Scenario); 2] {
        [("passed through", self.passed), ("translated", self.translated)].map(|(way, scenario)| {
            (way, Scenario { connections: connections.unwrap_or(scenario.connections), ..scenario })
        })
    }
}

/// What a pair came to.
#[derive(Clone, Debug)]
pub struct Row {
    pair: Pair,
    /// Processor seconds per unit, passed through and translated, of each round.
    rounds: Vec<[f64; 2]>,
}

impl Row {
    /// The sum of all rounds, passed through and translated.
    fn costs(&self) -> [f64; 2] {
        [0, 1].map(|way: usize| {
            self.rounds.iter().map(|round| round[way]).sum::<f64>() / self.rounds.len() as f64
        })
    }

    fn ratio(&self) -> f64 {
        let [passed, translated] = self.costs();
        translated / passed
    }

    /// What is over the limit, in words.
    pub fn fault(&self) -> Option<String> {
        let fine = self.ratio() <= LIMIT;
        (!fine).then(|| {
            format!(
                "{}: translation costs {:.2} times what passing through does; at most {LIMIT}",
                self.pair.title,
                self.ratio()
            )
        })
    }
}

/// Measures all pairs on a server, in turns.
///
/// # Errors
///
/// When the server ends, or an answer is wrong.
pub fn measure(server: &Target, effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for pair in PAIRS {
        let mut rounds = Vec::new();
        for round in 0..=effort.rounds {
            let mut costs = [0.0; 2];
            // Another one begins in every round, and the first round only warms up.
            for turn in 0..2 {
                let way = (turn + round) % 2;
                let turn = if round == 0 { Duration::from_millis(100) } else { effort.turn };
                let (_, scenario) = pair.ways(None)[way];
                let before = server.family.cpu()?;
                let outcome = load::run(&scenario.plan(server, turn))?;
                if let Some(failure) = outcome.first_failure {
                    return Err(format!("{}, {}: {failure}", server.name, scenario.shape.name()).into());
                }
                // The audit trail is written behind the answers.
                sleep(Duration::from_millis(200));
                let units = outcome.answers as f64 * pair.units as f64;
                costs[way] = (server.family.cpu()? - before).as_secs_f64() / units;
            }
            if round > 0 {
                rounds.push(costs);
            }
        }
        rows.push(Row { pair, rounds });
    }
    Ok(rows)
}

/// The table.
pub fn table(rows: &[Row]) -> String {
    let mut text =
        "| CPU, µs | passed through | translated | translated / passed through | at most | rounds |\n\
                    | --- | ---: | ---: | ---: | ---: | --- |\n"
            .to_owned();
    for row in rows {
        let [passed, translated] = row.costs().map(|seconds| seconds * 1e6);
        let ratios = row.rounds.iter().map(|[passed, translated]| translated / passed);
        let (low, high) =
            ratios.fold((f64::INFINITY, 0.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
        let _ = writeln!(
            text,
            "| {} | {passed:.2} | {translated:.2} | **{:.2}** | {LIMIT} | {low:.2}–{high:.2} |",
            row.pair.title,
            row.ratio()
        );
    }
    text
}
