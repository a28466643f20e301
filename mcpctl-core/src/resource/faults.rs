//! Collecting every fault of an input instead of stopping at the first.

use crate::error::{Error, Result};

/// The faults found in one input, each with the field that has it.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    /// Notes that `field` is wrong: `add("tier", "must be one of fast, heavy")`.
    pub fn add(&mut self, field: &str, fault: impl AsRef<str>) {
        self.0.push(format!("{field}: {}", fault.as_ref()));
    }

    /// Whether nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` when nothing was wrong, else one [`ErrorKind::Invalid`](crate::ErrorKind) that lists every fault.
    ///
    /// # Errors
    ///
    /// The faults, joined by `; `.
    pub fn into_result(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::invalid(self.0.join("; "))) }
    }
}

/// ` (did you mean `x`?)` for the candidate nearest to `typo`, or nothing.
pub(crate) fn suggestion<'a>(typo: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(typo, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| format!(" (did you mean `{candidate}`?)"))
        .unwrap_or_default()
}

/// Levenshtein distance over characters; inputs are short field names.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = substituted.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_listed() {
        let mut faults = Faults::default();
        faults.add("a", "is required");
        faults.add("b", "must be a string");
        assert_eq!(faults.into_result().unwrap_err().message(), "a: is required; b: must be a string");
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(suggestion("teir", ["tier", "type"]), " (did you mean `tier`?)");
        assert_eq!(suggestion("modle", ["model", "name"]), " (did you mean `model`?)");
        assert_eq!(suggestion("colour", ["tier", "model"]), "");
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
