//! What tests that kill servers at random share. Each prints its seed, and does the same again when it is given:
//! `MCPCTL_CHAOS_SEED`. `MCPCTL_CHAOS_ROUNDS` is how often each kills.

use std::env;

/// A generator of numbers that look random and are the same at every run.
#[derive(Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The numbers of this seed, or of the one in the environment.
    pub fn new(seed: u64) -> Self {
        let seed = from_environment("MCPCTL_CHAOS_SEED").unwrap_or(seed);
        println!("seed {seed}: set MCPCTL_CHAOS_SEED={seed} to do this again");
        Self(seed)
    }

    /// The next number, less than `most`.
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// How many rounds to go: `few`, unless the environment says otherwise.
pub fn rounds(few: u64) -> u64 {
    from_environment("MCPCTL_CHAOS_ROUNDS").unwrap_or(few)
}

fn from_environment(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}
