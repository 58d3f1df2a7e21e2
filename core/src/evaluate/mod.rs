//! Stage 5: how right a model is. Greedy answers and samples at a temperature, judged by every rule of the task; from
//! them shares with intervals, pass@k, votes, the task's measures, and paired comparisons of two models.
//!
//! [`run`] makes an [`Evaluation`]; [`Summary`] is its numbers, [`Comparison`] holds it against another, and [`results`]
//! are its files. docs/evaluation.md says what each number means.

mod answer;
mod ask;
mod compare;
pub mod metric;
pub mod results;
mod summary;
#[cfg(test)]
mod tests;
mod vote;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use sipf_plugin::{Metric, Problem, RewardModel, TaskCard};

pub use answer::{Answer, Answers};
pub use compare::{Comparison, Paired, compare};
pub use summary::Summary;

use crate::generate::{Generator, Sampling};
use crate::progress::Progress;
use crate::reward::RewardNet;
use crate::verify::Verifier;
use crate::work::{self, Plan};
use crate::{Error, Result};

/// Completions of a piece of work: what is lost at most when an evaluation is killed.
const PIECE_COMPLETIONS: usize = 512;
/// Every k of pass@k that is reported where there are as many samples.
const KS: [usize; 10] = [1, 2, 4, 5, 8, 10, 16, 32, 64, 100];

/// How to evaluate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EvaluateSettings {
    /// Whether to answer at temperature 0, once.
    pub greedy: bool,
    /// Sampled answers of each problem.
    pub samples: usize,
    /// Their temperature.
    pub temperature: f32,
    /// Their nucleus; 1 keeps all.
    pub top_p: f32,
    /// Most new tokens of an answer.
    pub max_tokens: usize,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// The k of pass@k; those that exceed the samples are left out.
    pub ks: Vec<usize>,
    /// Ask with the task's worked examples in front, for models that were not trained on its prompt.
    pub few_shot: bool,
}

impl Default for EvaluateSettings {
    fn default() -> Self {
        Self {
            greedy: true,
            samples: 4,
            temperature: 1.0,
            top_p: 1.0,
            max_tokens: 512,
            stop: Vec::new(),
            ks: KS.to_vec(),
            few_shot: false,
        }
    }
}

impl EvaluateSettings {
    /// The task's token limit and stop strings, samples at temperature 1.
    pub fn of(card: &TaskCard) -> Self {
        Self { max_tokens: card.max_tokens, stop: card.stop.clone(), ..Self::default() }
    }

    fn sampling(&self, temperature: f32) -> Sampling {
        let top_p = if temperature == 0.0 { 1.0 } else { self.top_p };
        let (max_tokens, stop) = (self.max_tokens, self.stop.clone());
        Sampling { temperature, top_p, max_tokens, stop, ..Sampling::default() }
    }

    /// Whether the settings make sense together.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check(&self) -> Result<()> {
        if !self.greedy && self.samples == 0 {
            return Err(Error::unusable(
                "an evaluation without greedy answers and without samples asks nothing: say --samples N",
            ));
        }
        if self.samples > 0 && self.temperature == 0.0 {
            return Err(Error::unusable(
                "samples at temperature 0 are copies of the greedy answer: raise the temperature or ask for 0 samples",
            ));
        }
        Error::unless(!self.ks.contains(&0), "ks", 0, "1 or more")?;
        self.sampling(self.temperature).check()
    }

    /// Problems of a piece: fixed by the settings, never by the machine.
    fn piece(&self) -> usize {
        (PIECE_COMPLETIONS / (self.samples + usize::from(self.greedy))).max(1)
    }
}

/// Who is asked, what, and who judges.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The model.
    pub generator: &'a dyn Generator,
    /// The task's judge.
    pub verifier: &'a Verifier,
    /// What is asked.
    pub problems: &'a [Problem],
    /// A trained reward model, for best-of-n and votes weighted by reward.
    pub reward: Option<(&'a RewardNet, &'a dyn RewardModel)>,
}

/// Where an evaluation keeps what it has done.
#[derive(Debug, Clone, Copy)]
pub struct Journal<'a> {
    /// The task's samples file ([`results::samples_file`]); the journal lies beside it.
    pub file: &'a Path,
    /// What the answers are made from (weights, data, settings): a journal with another key is not gone on with.
    pub key: &'a str,
    /// Pieces in flight: with two, programs are judged while the next piece generates. Changes no result.
    pub lanes: usize,
}

/// All answers of a model to a task's problems.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evaluation {
    /// The task's name.
    pub task: String,
    /// The task's headline number.
    pub metric: Metric,
    /// The rule that "right" means; empty where there is only one way to be right.
    pub rule: String,
    /// How it was done.
    pub settings: EvaluateSettings,
    /// By problem, in the order of the data set.
    pub answers: Vec<Answers>,
}

/// Asks every problem and judges the answers.
///
/// A random stream is named by seed, problem and index, and not by the iteration: two models draw with the same random
/// numbers. Their difference then varies less than with numbers of their own, and equal weights give equal answers.
///
/// An answer that cannot be judged counts as wrong and is told apart in [`Summary::errors`].
///
/// # Errors
/// [`Error::Interrupted`] once `stop` is set (what is done is in the journal), a setting that makes no sense, or what
/// the generator says.
pub fn run(
    subject: &Subject<'_>,
    settings: &EvaluateSettings,
    seed: u64,
    journal: &Journal<'_>,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Evaluation> {
    settings.check()?;
    let asking = ask::Asking::new(subject, settings, seed)?;
    let plan = Plan {
        file: journal.file,
        key: journal.key,
        units: subject.problems.len(),
        piece: settings.piece(),
        lanes: journal.lanes,
    };
    let units = work::through(&plan, stop, progress, &|range| asking.piece(&subject.problems[range], stop))?;
    let card = subject.verifier.task().card();
    Ok(Evaluation {
        task: card.name,
        metric: card.metric,
        rule: subject.verifier.rule().unwrap_or_default().to_owned(),
        settings: settings.clone(),
        answers: units.into_iter().flat_map(|unit| unit.rows).collect(),
    })
}
