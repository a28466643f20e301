//! What must hold for any input of the wire formats: a [target](TARGETS) is a function that takes any bytes and panics
//! when something does not hold.
//!
//! The same functions are run by a plain loop over [damaged](mutate) cases of the golden corpus (`make fuzz`, and in
//! short as a test), and by cargo-fuzz (`fuzz/fuzz_targets`).

pub mod mutate;
pub mod seeds;
mod targets;

pub use targets::{TARGETS, Target};

/// Runs the target of this name on an input.
///
/// # Panics
///
/// When there is no such target, or what must hold does not.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the target's name").run)(input);
}

/// A number that is the same for the same input: what else an input needs is derived from it.
fn digest(input: &[u8]) -> usize {
    input.iter().fold(0xcbf2_9ce4_usize, |hash, byte| (hash ^ usize::from(*byte)).wrapping_mul(0x0100_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mutate::Mutator, seeds::Seeds};

    /// The loop in short; `make fuzz` is the long one.
    #[test]
    fn nothing_breaks_on_damaged_cases() {
        const EACH: u64 = 1000;
        let seeds = Seeds::read();
        for target in &TARGETS {
            let mutator = Mutator::new(&seeds, target);
            for index in 0..EACH {
                let input = mutator.input(1, index);
                let shown = || String::from_utf8_lossy(&input).into_owned();
                let outcome = std::panic::catch_unwind(|| (target.run)(&input));
                assert!(outcome.is_ok(), "{}, seed 1, input {index}: {}", target.name, shown());
            }
        }
        println!("{} inputs", EACH * TARGETS.len() as u64);
    }

    #[test]
    fn what_the_corpus_has_holds() {
        let seeds = Seeds::read();
        let mut count = 0;
        for target in &TARGETS {
            let own = seeds.of(target);
            assert!(!own.is_empty(), "no seeds for {}", target.name);
            for seed in own {
                (target.run)(&seed.text);
                count += 1;
            }
        }
        println!("{count} seeds");
    }

    #[test]
    fn the_same_seed_gives_the_same_input() {
        let seeds = Seeds::read();
        let mutator = Mutator::new(&seeds, &TARGETS[0]);
        let inputs: Vec<_> = (0..50).map(|index| mutator.input(7, index)).collect();
        assert!((0..50).all(|index| mutator.input(7, index) == inputs[index as usize]));
        assert_ne!(mutator.input(8, 0), inputs[0]);
        let different: std::collections::BTreeSet<_> = inputs.into_iter().collect();
        assert!(different.len() > 40);
    }

    /// Each target has a file for cargo-fuzz, and nothing else has.
    #[test]
    fn cargo_fuzz_has_every_target() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).unwrap();
        for Target { name, .. } in &TARGETS {
            let file = std::fs::read_to_string(format!("{folder}/fuzz_targets/{name}.rs")).unwrap();
            assert!(file.contains(&format!("fuzzing::run(\"{name}\", input)")), "{file}");
            assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")));
        }
        assert_eq!(std::fs::read_dir(format!("{folder}/fuzz_targets")).unwrap().count(), TARGETS.len());
    }
}
