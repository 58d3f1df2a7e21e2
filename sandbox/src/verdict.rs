//! One verdict: a fresh program, a judge, and the door between them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use sipf_plugin::{Counters, Limits, Outcome, Program, RunVerdict, TestOutcome};

use crate::engine::Kept;
use crate::error::Result;
use crate::instance::{Door, Factory, Instance};
use crate::limits::MAX_REPLY;
use crate::outcome::{Oversized, of_judge, of_load, of_stop};

/// How many verdicts a judge gives before it is replaced.
pub const JUDGE_VERDICTS: u32 = 256;
/// A judge that grew beyond this is replaced, in bytes: its memory never shrinks, and later tests would find it full.
const JUDGE_MEMORY: usize = 64 << 20;
/// What the judge reads when the program's instance is gone.
const DEAD: &[u8] = br#"["dead"]"#;

/// What the judge reads in place of a reply that would overflow its stack: no reply of the codec.
const TOO_DEEP: &[u8] = b"[]";
/// Brackets within brackets; the codec stops at 60 values within values, a handful of brackets each.
const DEPTH: usize = 512;

/// Whether a reply nests deeper than the codec ever does. What is not JSON may be judged either way.
fn too_deep(reply: &[u8]) -> bool {
    let (mut depth, mut inside, mut escaped) = (0usize, false, false);
    for &byte in reply {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'[' | b'{' if !inside => depth += 1,
            b']' | b'}' if !inside => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return true;
        }
    }
    false
}

/// A judge between two verdicts.
pub(crate) struct Judge {
    instance: Instance,
    given: u32,
}

/// The judge's own limits: its memory and output do not depend on the program's.
fn judge_limits(fuel: u64) -> Limits {
    Limits { fuel, memory_bytes: crate::limits::MEMORY, output_bytes: crate::limits::OUTPUT }
}

/// The program's side while the judge runs.
struct Side {
    instance: Instance,
    ended: Option<wasmtime::Error>,
}

impl Side {
    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        if self.ended.is_some() {
            return DEAD.to_vec();
        }
        let Instance { store, python, .. } = &mut self.instance;
        match python.call_call(store, request) {
            Ok(reply) if reply.len() <= MAX_REPLY => return reply,
            Ok(_) => self.ended = Some(wasmtime::Error::new(Oversized)),
            Err(error) => self.ended = Some(error),
        }
        DEAD.to_vec()
    }
}

#[derive(Deserialize)]
pub(crate) struct Report {
    setup: (String, String),
    /// Empty when setup did not pass.
    tests: Vec<(String, String)>,
    /// Whether setup or tests may have changed a module of the judge's.
    soiled: bool,
    counters: Counters,
}

/// Where judges wait, and what makes instances.
pub(crate) struct Court {
    pub(crate) factory: Factory,
    idle: Mutex<Vec<(Judge, Kept)>>,
}

impl Court {
    pub(crate) fn new(factory: Factory) -> Self {
        Self { factory, idle: Mutex::default() }
    }

    /// Runs one program and its tests. `None` when it was interrupted.
    pub(crate) fn verdict(
        &self,
        program: &Program,
        limits: &Limits,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Option<Outcome>> {
        let mut instance = self.factory.instance(limits, interrupt)?;
        let loaded = instance.python.call_load(&mut instance.store, &program.source);
        if interrupt.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let failed = match &loaded {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(of_load(text)),
            Err(error) => Some(of_stop(error, instance.store.data().memory.denied, limits, "the program")),
        };
        if let Some(failed) = failed {
            let outcome = Outcome { verdict: failed.verdict, message: failed.message, ..Outcome::default() };
            return Ok(Some(measured(outcome, &instance)));
        }
        if program.tests.is_empty() && program.setup.is_empty() {
            let outcome = Outcome { verdict: RunVerdict::Passed, ..Outcome::default() };
            return Ok(Some(measured(outcome, &instance)));
        }
        let side = Arc::new(Mutex::new(Side { instance, ended: None }));
        let theirs = side.clone();
        let door: Door = Box::new(move |request| {
            Ok(theirs.lock().unwrap_or_else(PoisonError::into_inner).answer(&request))
        });
        let judged = self.judge(program, limits, interrupt, door)?;
        if interrupt.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let side = side.lock().unwrap_or_else(PoisonError::into_inner);
        let death = side
            .ended
            .as_ref()
            .map(|error| of_stop(error, side.instance.store.data().memory.denied, limits, "the program"));
        Ok(Some(measured(judged.outcome(death, program.tests.len()), &side.instance)))
    }

    /// A judge that has judged nothing yet. The guest's runtime draws the keys of its hash tables from the system's
    /// random numbers in the first call of its life; that call is made here, so that no test sees fewer of them than
    /// the next one.
    fn woken(&self, limits: &Limits, interrupt: &Arc<AtomicBool>) -> Result<Judge> {
        let mut instance = self.factory.instance(limits, interrupt)?;
        instance.python.call_check(&mut instance.store, "", &[], &[])?;
        Ok(Judge { instance, given: 0 })
    }

    /// Runs the tests of `program` against whatever stands behind the door.
    pub(crate) fn judge(
        &self,
        program: &Program,
        limits: &Limits,
        interrupt: &Arc<AtomicBool>,
        door: Door,
    ) -> Result<Judged> {
        let limits = judge_limits(limits.fuel);
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut judge = match waiting {
            Some((judge, _)) => judge,
            None => self.woken(&limits, interrupt)?,
        };
        judge.instance.renew(limits.fuel, interrupt)?;
        let mut door = door;
        let shallow: Door = Box::new(move |request| {
            let reply = door(request)?;
            Ok(if too_deep(&reply) { TOO_DEEP.to_vec() } else { reply })
        });
        judge.instance.store.data_mut().door = Some(shallow);
        let Instance { store, python, .. } = &mut judge.instance;
        let ended = python.call_check(&mut *store, &program.setup, &program.tests, &program.names);
        store.data_mut().door = None;
        let denied = store.data().memory.denied;
        judge.given += 1;
        match ended {
            Ok(text) => {
                let report: Option<Report> = serde_json::from_str(&text).ok();
                let calm = report.as_ref().is_some_and(|report| {
                    let harmed = |(class, _): &(String, _)| class == "tampering" || class == "memory_limit";
                    !report.soiled && !harmed(&report.setup) && !report.tests.iter().any(harmed)
                });
                let small = judge.instance.store.data().memory.peak <= JUDGE_MEMORY;
                if calm
                    && small
                    && !denied
                    && judge.given < JUDGE_VERDICTS
                    && let Some(kept) = Kept::one()
                {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((judge, kept));
                }
                Ok(Judged::Said(report))
            }
            Err(error) => Ok(Judged::Stopped(of_stop(&error, denied, &limits, "the tests"))),
        }
    }
}

/// How the judge ended.
pub(crate) enum Judged {
    /// With a report; `None` when it is not one.
    Said(Option<Report>),
    /// By a limit.
    Stopped(TestOutcome),
}

impl Judged {
    /// The outcome, without the program's figures. `death` is why the program's instance is gone.
    pub(crate) fn outcome(self, death: Option<TestOutcome>, expected: usize) -> Outcome {
        let report = match self {
            Self::Stopped(stopped) => {
                let stopped = death.unwrap_or(stopped);
                return Outcome { verdict: stopped.verdict, message: stopped.message, ..Outcome::default() };
            }
            Self::Said(Some(report)) => report,
            Self::Said(None) => {
                return Outcome { message: "the judge's report is damaged".into(), ..Outcome::default() };
            }
        };
        let judged = |(class, message): (String, String)| match (class.as_str(), &death) {
            ("dead", Some(death)) => death.clone(),
            _ => of_judge(&class, message),
        };
        let setup = judged(report.setup);
        if setup.verdict != RunVerdict::Passed {
            let message = format!("the setup: {}", setup.message);
            return Outcome {
                verdict: setup.verdict,
                message,
                counters: report.counters,
                ..Outcome::default()
            };
        }
        let tests: Vec<_> = report.tests.into_iter().map(judged).collect();
        let verdict = match tests.iter().find(|test| test.verdict != RunVerdict::Passed) {
            Some(test) => test.verdict,
            None if tests.len() == expected => RunVerdict::Passed,
            None => RunVerdict::Tampering,
        };
        Outcome { verdict, tests, counters: report.counters, ..Outcome::default() }
    }
}

fn measured(outcome: Outcome, instance: &Instance) -> Outcome {
    let state = instance.store.data();
    Outcome {
        fuel: instance.used(),
        memory_bytes: state.memory.peak as u64,
        limit_hit: outcome.limit_hit || state.memory.denied,
        stdout: state.printed.text(),
        ..outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        assert!(too_deep(&[b'['; DEPTH + 1]));
        assert!(!too_deep("[]".repeat(DEPTH + 1).as_bytes()));
        assert!(!too_deep(format!(r#"["\"{}"]"#, "[".repeat(DEPTH + 1)).as_bytes()));
    }
}
