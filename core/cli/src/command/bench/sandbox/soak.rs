//! Many verdicts in one process, a tenth of them on programs that hog, crash or cheat: memory stays, verdicts stay.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use sipf_plugin::{Limits, Outcome, Program, RunVerdict};

use super::{Reference, open, outcomes};

/// After how many verdicts memory is looked at.
const EVERY: usize = 1000;
/// Fuel of every program here: references that need more are left out.
const FUEL: u64 = 500_000_000;

use RunVerdict::{
    Crashed, Exit, FailedAssertion, MemoryLimit, OutputLimit, RuntimeError, StackOverflow, Tampering, Timeout,
};

/// Programs and what they come to, with the test of [`hostile`].
const HOSTILE: &[(&str, RunVerdict)] = &[
    ("def f(x):\n    while True: pass", Timeout),
    ("def f(x):\n    a = []\n    while True: a.append('x' * 4_000_000)", MemoryLimit),
    ("def f(x): return f(x)", StackOverflow),
    ("def f(x):\n    while True: print('x' * 65536)", OutputLimit),
    ("def f(x): return 'x' * 20_000_000", OutputLimit),
    ("import os\ndef f(x): os.abort()", Crashed),
    ("import sys\ndef f(x): sys.exit(0)", Exit),
    ("def f(x): return open('/etc/passwd').read()", RuntimeError),
    ("class A(int):\n    def __eq__(s, o): return True\ndef f(x): return A()", FailedAssertion),
    ("import sys\nsys.modules['app'].WitWorld.call = lambda self, request: b'[]'", Tampering),
];

fn hostile(number: usize) -> (Program, RunVerdict) {
    let (source, wanted) = HOSTILE[number % HOSTILE.len()];
    (Program::python(source).tests(["assert f(3) == 9"]).names(["f"]), wanted)
}

pub(super) fn run(
    references: &[Reference],
    verdicts: usize,
    workers: usize,
) -> anyhow::Result<(Value, bool)> {
    let sandbox = open(workers)?;
    let limited = |program: &Program| {
        let limits = Limits { fuel: FUEL, ..program.limits };
        program.clone().limits(limits)
    };
    let all: Vec<Program> = references.iter().map(|reference| limited(&reference.program)).collect();
    // What a reference comes to must not depend on what ran before it.
    let alone = outcomes(&sandbox, &all);
    let honest: Vec<(Program, Outcome)> =
        all.into_iter().zip(alone).filter(|(_, outcome)| outcome.verdict == RunVerdict::Passed).collect();
    anyhow::ensure!(!honest.is_empty(), "no reference passes with {FUEL} units of fuel");
    let seen = Mutex::new(Seen::default());
    let taken = AtomicUsize::new(0);
    let begun = Instant::now();
    let next = || {
        let number = taken.fetch_add(1, Ordering::Relaxed);
        let program = match number % 10 {
            9 => limited(&hostile(number / 10).0),
            _ => honest[number % honest.len()].0.clone(),
        };
        (number < verdicts).then_some((number, program))
    };
    sandbox.stream(&AtomicBool::new(false), &next, &|number, outcome| {
        let right = match (&outcome, number % 10) {
            (Ok(outcome), 9) => outcome.verdict == hostile(number / 10).1,
            (Ok(outcome), _) => *outcome == honest[number % honest.len()].1,
            (Err(_), _) => false,
        };
        let verdict = outcome.map_or(RunVerdict::HostError, |outcome| outcome.verdict);
        seen.lock().unwrap_or_else(PoisonError::into_inner).add(number, verdict, right);
    })?;
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    let settled = seen.memory.get(1..).unwrap_or_default();
    let value = json!({
        "verdicts": seen.count, "seconds": begun.elapsed().as_secs_f64(), "by_verdict": seen.by_verdict,
        "wrong": seen.wrong, "resident_mb_every": EVERY, "resident_mb": seen.memory,
        "resident_mb_after_first": { "least": settled.iter().min(), "most": settled.iter().max(), "last": settled.last() },
    });
    Ok((value, seen.wrong.is_empty() && seen.count == verdicts))
}

#[derive(Default)]
struct Seen {
    count: usize,
    by_verdict: BTreeMap<&'static str, usize>,
    /// Numbers of the verdicts that are not what they should be.
    wrong: Vec<usize>,
    memory: Vec<u64>,
}

impl Seen {
    fn add(&mut self, number: usize, verdict: RunVerdict, right: bool) {
        self.count += 1;
        *self.by_verdict.entry(verdict.name()).or_default() += 1;
        if !right {
            self.wrong.push(number);
        }
        if self.count.is_multiple_of(EVERY) {
            self.memory.extend(resident_mb());
        }
    }
}

/// Resident memory of this process, where the system tells.
fn resident_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? >> 10)
}
