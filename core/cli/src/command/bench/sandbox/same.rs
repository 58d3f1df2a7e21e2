//! The same outcomes, to the last unit of fuel, in every run and on any number of threads.

use std::time::Instant;

use serde_json::{Value, json};
use sipf_plugin::{Outcome, Program, RunVerdict};

use super::{Reference, open, outcomes};

const THREADS: [usize; 3] = [1, 1, 2];

pub(super) fn run(references: &[Reference]) -> anyhow::Result<(Value, bool)> {
    let programs: Vec<Program> = references.iter().map(|reference| reference.program.clone()).collect();
    let mut first: Vec<Outcome> = Vec::new();
    let (mut seconds, mut differing) = (Vec::new(), Vec::new());
    for threads in THREADS {
        let begun = Instant::now();
        let found = outcomes(&open(threads)?, &programs);
        seconds.push(begun.elapsed().as_secs_f64());
        if first.is_empty() {
            first = found;
            continue;
        }
        let differs = |number: &usize| first[*number] != found[*number];
        differing.extend((0..programs.len()).filter(differs).map(|number| references[number].id.as_str()));
    }
    let failed: Vec<&str> = references
        .iter()
        .zip(&first)
        .filter(|(_, outcome)| outcome.verdict != RunVerdict::Passed)
        .map(|(reference, _)| reference.id.as_str())
        .collect();
    let fuel: u64 = first.iter().map(|outcome| outcome.fuel).sum();
    let holds = failed.is_empty() && differing.is_empty();
    let value = json!({ "references": programs.len(), "threads": THREADS, "seconds": seconds, "fuel": fuel,
        "failed": failed, "differing": differing });
    Ok((value, holds))
}
