//! Stage 2: roll out from every step of a subset of the paths and label the step by how the rollouts end (Eq. 2-3).
//!
//! Rollouts of a step are numbered, each with a random stream of its own, and a step's rollouts stop with the one that
//! decides its label (`tally.rs`): the label is that of all K, whatever ran at the same time. A piece works in rounds, so
//! that what every undecided step needs next is one batch for the generator, whose cache holds the prefixes, and one for
//! the sandbox.

mod chunk;
mod counts;
pub mod interval;
mod label;
pub mod select;
mod settings;
mod tally;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sipf_plugin::{Problem, Task};

pub use counts::LabelCounts;
pub use label::{GOLD, OUTCOME, by_outcome};
pub use select::{Path, Selection, select};
pub use settings::{
    MAX_CHANCE, MAX_TOKENS, PATHS_PER_QUESTION, ROLLOUTS, SimulateSettings, TEMPERATURE, THRESHOLD,
};

use crate::error::per_row;
use crate::generate::{Generator, Request, Sampling, complete};
use crate::progress::Progress;
use crate::record::StepLabels;
use crate::stream::StreamName;
use crate::verify::Verifier;
use crate::work::{self, Target, Unit};
use crate::{Error, Result};
use label::Labelling;

/// Paths of a piece: about 250 rollouts in its first round.
const PIECE_PATHS: usize = 64;

/// What labels are made with.
#[derive(Clone, Copy)]
pub struct SimulateInput<'a> {
    /// Continues steps.
    pub simulator: &'a dyn Generator,
    /// What rows call it.
    pub name: &'a str,
    /// Judges, and knows the task.
    pub verifier: &'a Verifier,
    /// What is labelled; [`select()`] chooses it.
    pub paths: &'a [Path<'a>],
    /// The run's seed.
    pub seed: u64,
}

/// Labels every step of the paths. One unit a path, in their order; one without a row is a path that could not be
/// labelled, and `progress` notes why.
///
/// # Errors
/// [`Error::Interrupted`] once `stop` is set (what is done is in the journal); settings that do not fit; a plugin that
/// is of no use any more; what the generator says.
pub fn run(
    input: &SimulateInput<'_>,
    settings: &SimulateSettings,
    target: Target<'_>,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Vec<Unit<StepLabels>>> {
    settings.check()?;
    let task = &**input.verifier.task();
    let sampling = Arc::new(settings.drawn(&task.card().stop));
    let stage = Stage { input, settings, task, sampling, stop, progress };
    work::through(&target.plan(input.paths.len(), PIECE_PATHS), stop, progress, &|paths| stage.piece(paths))
}

struct Stage<'a> {
    input: &'a SimulateInput<'a>,
    settings: &'a SimulateSettings,
    task: &'a dyn Task,
    sampling: Arc<Sampling>,
    stop: &'a AtomicBool,
    progress: &'a Progress,
}

/// A rollout on its way: the path's place in the piece, its chunk's, and the rollout's number.
#[derive(Clone, Copy)]
struct Rollout {
    path: usize,
    start: usize,
    number: u32,
}

impl Stage<'_> {
    fn piece(&self, range: Range<usize>) -> Result<Vec<Unit<StepLabels>>> {
        let paths = &self.input.paths[range];
        let mut open = Vec::new();
        let mut units: Vec<Unit<StepLabels>> = Vec::with_capacity(paths.len());
        for (place, path) in paths.iter().enumerate() {
            let row = match path {
                Path::Gold { problem } => label::gold(problem, self.task)?.map(Some),
                Path::Drawn { problem, sample } => {
                    let tokenizer = self.input.simulator.tokenizer();
                    let opened = Labelling::open(problem, sample, self.task, tokenizer, self.settings)?;
                    opened.map(|path| open.push((place, path))).map(|()| None)
                }
            };
            let row = row.unwrap_or_else(|error| {
                self.progress.note(&format!("{} is left out: {error}", name(path)));
                None
            });
            units.push(Unit { rows: row.into_iter().collect(), tokens: 0 });
        }
        let (places, mut open): (Vec<usize>, Vec<Labelling<'_>>) = open.into_iter().unzip();
        while self.round(&mut open)? {}
        for (place, path) in places.into_iter().zip(open) {
            units[place].tokens = path.tokens;
            match path.row(self.input.name, self.settings)? {
                Some(row) => units[place].rows.push(row),
                None => {
                    let why = "no rollout of one of its steps got a verdict";
                    self.progress.note(&format!("{} is left out: {why}", path.sample.id));
                }
            }
        }
        Ok(units)
    }

    /// Runs what every undecided step needs next; `false` when nothing is undecided.
    fn round(&self, open: &mut [Labelling<'_>]) -> Result<bool> {
        let (mut rollouts, mut requests) = (Vec::new(), Vec::new());
        for (place, path) in open.iter().enumerate() {
            for (at, start) in path.starts.iter().enumerate() {
                for number in start.tally.next() {
                    rollouts.push(Rollout { path: place, start: at, number });
                    requests.push(self.request(path, at, number));
                }
            }
        }
        if rollouts.is_empty() {
            return Ok(false);
        }
        let (completions, _) = complete(self.input.simulator, requests, self.stop)?;
        let mut texts: Vec<std::result::Result<String, String>> = Vec::with_capacity(rollouts.len());
        for (rollout, completion) in rollouts.iter().zip(completions) {
            let path = &mut open[rollout.path];
            path.tokens += completion.ids.len() as u64;
            let given = &path.sample.completion[..path.starts[rollout.start].chunk.end];
            let cleaned = self.task.clean(path.problem, &format!("{given}{}", completion.text));
            texts.push(per_row(cleaned.map_err(Error::from))?);
        }
        let passed = self.judge(open, &rollouts, &texts)?;
        for (rollout, passed) in rollouts.iter().zip(passed) {
            open[rollout.path].starts[rollout.start].tally.take(passed);
        }
        Ok(true)
    }

    /// Whether each rollout ended right; `None`: there is no verdict.
    fn judge(
        &self,
        open: &[Labelling<'_>],
        rollouts: &[Rollout],
        texts: &[std::result::Result<String, String>],
    ) -> Result<Vec<Option<bool>>> {
        let failed = |rollout: &Rollout, error: &str| {
            let (path, number) = (&open[rollout.path], rollout.number);
            self.progress
                .note(&format!("{}, step {}, rollout {number}: {error}", path.sample.id, rollout.start));
        };
        let mut passed = vec![None; rollouts.len()];
        let (mut places, mut items): (Vec<usize>, Vec<(&Problem, &str)>) = (Vec::new(), Vec::new());
        for (at, (rollout, text)) in rollouts.iter().zip(texts).enumerate() {
            match text {
                Ok(text) => {
                    places.push(at);
                    items.push((open[rollout.path].problem, text));
                }
                Err(error) => failed(rollout, error),
            }
        }
        for (at, judged) in places.into_iter().zip(self.input.verifier.judge_all(&items, self.stop)?) {
            match per_row(judged)? {
                Ok(judged) => passed[at] = (!judged.undecided).then_some(judged.passed),
                Err(error) => failed(&rollouts[at], &error),
            }
        }
        Ok(passed)
    }

    fn request(&self, path: &Labelling<'_>, start: usize, number: u32) -> Request {
        let start = &path.starts[start];
        let name = StreamName {
            seed: self.input.seed,
            stage: "simulate",
            iteration: path.sample.iteration,
            problem: &path.sample.id,
            step: u64::from(start.chunk.number),
            index: u64::from(number),
        };
        let (prompt, sampling) = (start.ids.clone(), self.sampling.clone());
        Request { tag: 0, stream: name.key(), prompt, sampling }
    }
}

/// The rollouts that K from every chunk would be.
pub fn most_rollouts(paths: &[Path<'_>], settings: &SimulateSettings) -> u64 {
    let of_path = |path: &Path<'_>| match path {
        Path::Gold { .. } => 0,
        Path::Drawn { sample, .. } => chunk::chunks(&sample.completion, &sample.steps).len(),
    };
    paths.iter().map(of_path).sum::<usize>() as u64 * u64::from(settings.rollouts)
}

fn name(path: &Path<'_>) -> String {
    match path {
        Path::Gold { problem } => format!("{}#gold", problem.id),
        Path::Drawn { sample, .. } => sample.id.clone(),
    }
}
