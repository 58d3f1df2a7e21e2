//! Stage 1: draw paths of every question, judge them, keep distinct right and wrong ones (Eq. 1; the paper's A.2).
//!
//! Attempts are numbered. Attempt `i` counts only while the quotas of right and of wrong paths are not both met, so what
//! is kept is a function of the numbers alone: attempts are drawn in waves, and those of a wave that lie behind the
//! stopping point leave no trace. Generating and judging are left to [`crate::generate`] and [`crate::verify`].

mod counts;
pub mod dedup;
pub mod distance;
mod question;
pub mod quota;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sipf_plugin::{Problem, Role, Task};

pub use counts::SampleCounts;
pub(crate) use question::bare_question;
pub use quota::Quota;
pub use settings::{
    EquationFilter, MAX_ATTEMPTS, MAX_TOKENS, NEGATIVES, POSITIVES, SampleSettings, TEMPERATURE, WAVE,
};

use crate::error::per_row;
use crate::generate::{Generator, Request, Sampling, complete};
use crate::progress::Progress;
use crate::record::Sample;
use crate::stream::StreamName;
use crate::verify::{Judged, Verifier};
use crate::work::{self, Target, Unit};
use crate::{Error, Result};
use question::{Attempt, Question};

/// Requests of a piece, about: enough to keep a batch full, few enough to lose little when killed.
const PIECE_REQUESTS: usize = 512;
/// Questions of a piece at most.
const PIECE_QUESTIONS: usize = 64;

/// What paths are drawn from.
#[derive(Clone, Copy)]
pub struct SampleInput<'a> {
    /// The policy.
    pub policy: &'a dyn Generator,
    /// Judges, and knows the task.
    pub verifier: &'a Verifier,
    /// The questions.
    pub problems: &'a [Problem],
    /// A quota for each question.
    pub quotas: &'a [Quota],
    /// Samples of earlier iterations: what was kept of them is not kept again.
    pub known: &'a [Sample],
    /// The iteration that draws; 0 for the supervised model.
    pub iteration: u64,
    /// The run's seed.
    pub seed: u64,
}

/// Draws paths of every question. One unit a question, in their order, with all attempts that count, kept or not.
///
/// # Errors
/// [`Error::Interrupted`] once `stop` is set (what is done is in the journal); settings or quotas that do not fit; a
/// plugin that is of no use any more; what the generator says. A plugin that fails on some rows costs these rows only:
/// they say so in `dropped_because`.
pub fn run(
    input: &SampleInput<'_>,
    settings: &SampleSettings,
    target: Target<'_>,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Vec<Unit<Sample>>> {
    settings.check()?;
    if input.quotas.len() != input.problems.len() {
        return Err(Error::unusable(format!(
            "{} quotas for {} questions",
            input.quotas.len(),
            input.problems.len()
        )));
    }
    let mut known: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in input.known.iter().filter(|sample| sample.kept) {
        known.entry(&sample.problem).or_default().push(sample);
    }
    let task = &**input.verifier.task();
    let sampling = Arc::new(settings.drawn(&task.card().stop));
    let stage = Stage { input, settings, task, known, sampling };
    let piece = (PIECE_REQUESTS / settings.wave).clamp(1, PIECE_QUESTIONS);
    work::through(&target.plan(input.problems.len(), piece), stop, progress, &|questions| {
        stage.piece(questions, stop, progress)
    })
}

struct Stage<'a> {
    input: &'a SampleInput<'a>,
    settings: &'a SampleSettings,
    task: &'a dyn Task,
    known: BTreeMap<&'a str, Vec<&'a Sample>>,
    sampling: Arc<Sampling>,
}

impl<'a> Stage<'a> {
    fn piece(
        &self,
        range: Range<usize>,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<Vec<Unit<Sample>>> {
        let mut questions: Vec<Question<'a>> = range.map(|at| self.open(at)).collect::<Result<_>>()?;
        loop {
            let (wave, most) = (self.settings.wave, self.settings.max_attempts);
            let asked: Vec<(usize, u64)> = (questions.iter().enumerate())
                .flat_map(|(place, question)| question.next(wave, most).map(move |index| (place, index)))
                .collect();
            if asked.is_empty() {
                break;
            }
            for ((place, _), attempt) in asked.iter().zip(self.attempts(&questions, &asked, stop)?) {
                questions[*place].take(self.task, attempt)?;
            }
        }
        let failed = questions.iter().flat_map(|question| &question.rows);
        for row in
            failed.filter(|row| row.dropped_because.as_ref().is_some_and(|why| why.starts_with("failed")))
        {
            progress.note(&format!("{}: {}", row.id, row.dropped_because.as_deref().unwrap_or_default()));
        }
        Ok(questions.into_iter().map(|q| Unit { rows: q.rows, tokens: q.tokens }).collect())
    }

    fn open(&self, at: usize) -> Result<Question<'a>> {
        let (problem, quota) = (&self.input.problems[at], self.input.quotas[at]);
        let mut question = Question::new(problem, self.input.iteration, quota, self.settings.equation_filter);
        match per_row(self.task.prompt(problem, Role::Policy).map_err(Error::from))? {
            Ok(prompt) => {
                question.ids = self.input.policy.tokenizer().encode(&prompt, true)?;
                question.prompt = prompt;
            }
            Err(error) => question.close(error),
        }
        for sample in self.known.get(problem.id.as_str()).into_iter().flatten() {
            question.remember(self.task, sample)?;
        }
        Ok(question)
    }

    /// Draws, cleans and judges these attempts; in their order.
    fn attempts(
        &self,
        questions: &[Question<'_>],
        asked: &[(usize, u64)],
        stop: &AtomicBool,
    ) -> Result<Vec<Attempt>> {
        let requests = asked.iter().map(|(place, index)| self.request(&questions[*place], *index)).collect();
        let (completions, _) = complete(self.input.policy, requests, stop)?;
        let mut attempts = Vec::with_capacity(asked.len());
        for ((place, _), completion) in asked.iter().zip(completions) {
            let cleaned = self.task.clean(questions[*place].problem, &completion.text);
            let (text, judged) = match per_row(cleaned.map_err(Error::from))? {
                Ok(text) => (text, Ok(Judged::default())),
                Err(error) => (completion.text, Err(error)),
            };
            attempts.push(Attempt { completion: text, tokens: completion.ids.len() as u64, judged });
        }
        let places: Vec<usize> = (0..attempts.len()).filter(|at| attempts[*at].judged.is_ok()).collect();
        let items: Vec<(&Problem, &str)> = places
            .iter()
            .map(|at| (questions[asked[*at].0].problem, attempts[*at].completion.as_str()))
            .collect();
        let judged = self.input.verifier.judge_all(&items, stop)?;
        for (at, judged) in places.into_iter().zip(judged) {
            attempts[at].judged = per_row(judged)?;
        }
        Ok(attempts)
    }

    fn request(&self, question: &Question<'_>, index: u64) -> Request {
        let name = StreamName {
            seed: self.input.seed,
            stage: "sample",
            iteration: self.input.iteration,
            problem: &question.problem.id,
            step: 0,
            index,
        };
        let (prompt, sampling) = (question.ids.clone(), self.sampling.clone());
        Request { tag: 0, stream: name.key(), prompt, sampling }
    }
}
