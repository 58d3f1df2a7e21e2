//! A task for tests: sums whose solutions have two steps and an answer line. What some texts contain makes it fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sipf_plugin::prelude::*;
use sipf_plugin::{Execute, Program, RunVerdict};

use crate::verify::Verifier;

/// Sums. A text with `boom` fails, one with `the end` fails for good, one with `run` asks for a program.
pub(crate) struct Sums;

/// Question `a + b?`, answer `a + b`.
pub(crate) fn problem(index: usize) -> Problem {
    let (a, b) = (index, 2 * index + 1);
    Problem::new(format!("sums/{index}"), format!("{a} + {b}?"))
        .answer((a + b).to_string())
        .solution(format!("first {a}\nthen {b}\n#### {}", a + b))
}

impl Task for Sums {
    fn card(&self) -> TaskCard {
        TaskCard::new("sums", Domain::Math)
    }

    fn source(&self, _: Split) -> Result<Source> {
        Ok(Source::Missing)
    }

    fn problems(&self, _: &Row, _: Split) -> Result<Vec<Problem>> {
        Ok(Vec::new())
    }

    fn prompt(&self, problem: &Problem, role: Role) -> Result<String> {
        match (role, problem.question.contains("unwritable")) {
            (_, true) => Err("no prompt".into()),
            (Role::Simulator, _) => Ok(format!("Go on: {}\n", problem.question)),
            _ => Ok(format!("Q: {}\n", problem.question)),
        }
    }

    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        if completion.contains("boom") {
            return Err("boom".into());
        }
        if completion.contains("the end") {
            return Err(Error::fatal("not called any more"));
        }
        if completion.contains("run") {
            return Ok(Check::run(Program::python("")));
        }
        let answer = text::after(completion, "####").map(str::to_owned);
        let passed = answer.is_some() && answer == problem.answer;
        Ok(Check::Verdict(Verdict::new(passed).answer(answer)))
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        let lines =
            text::lines(completion).filter(|(start, end)| !completion[*start..*end].starts_with("####"));
        Ok(lines.zip(0..).map(|((start, end), chunk)| Step { start, end, chunk }).collect())
    }

    /// Lines that begin with `=` are the key; a text with `false` is flawed.
    fn signature(&self, _: &Problem, completion: &str) -> Result<Signature> {
        let key: Vec<&str> = completion.lines().filter(|line| line.starts_with('=')).collect();
        if key.is_empty() {
            return Ok(Signature::exact(completion));
        }
        let flaw = completion.contains("false").then(|| "false equation".to_owned());
        Ok(Signature::key(key.join("|"), completion).flawed(flaw))
    }
}

/// Cannot carry any test.
struct Unsupported;

impl Execute for Unsupported {
    fn run(&self, programs: &[Program], stop: &AtomicBool, done: &(dyn Fn(usize, Result<Outcome>) + Sync)) {
        for place in (0..programs.len()).filter(|_| !stop.load(Ordering::Relaxed)) {
            done(place, Ok(Outcome { verdict: RunVerdict::Unsupported, ..Outcome::default() }));
        }
    }
}

/// The judge of [`Sums`].
pub(crate) fn verifier() -> Verifier {
    Verifier::new(Arc::new(Sums), Some(Arc::new(Unsupported)), None).expect("a verifier")
}
