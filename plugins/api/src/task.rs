//! The trait that a reasoning domain implements.

use serde::{Deserialize, Serialize};

use crate::card::TaskCard;
use crate::check::{Check, Outcome, Verdict};
use crate::default;
use crate::error::Result;
use crate::layout::Step;
use crate::problem::{Problem, Row, Source, Split};
use crate::signature::Signature;

/// Who reads a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// The model that is trained.
    Policy,
    /// The model that continues steps.
    Simulator,
    /// A model that has only worked examples to go by.
    FewShot,
}

/// An extra number about one completion, averaged in reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measure {
    /// Its name, for example `fully_right`.
    pub name: String,
    /// Its value; must be finite.
    pub value: f64,
}

/// A reasoning domain: where problems come from, how to ask, how to judge.
///
/// Methods take `&self`, hold no state and answer the same question with the same bytes.
pub trait Task: Send + Sync + 'static {
    /// Name, domain, metric, sampling defaults, stop strings, transfer tasks, answer rules.
    fn card(&self) -> TaskCard;

    /// Where this split's rows come from. Default: `train` and `test` are generated, there is no `validation`.
    ///
    /// # Errors
    /// When the task cannot tell.
    fn source(&self, split: Split) -> Result<Source> {
        default::source(split)
    }

    /// Row `index` of a generated split; the same index is the same row for ever. Default: unsupported.
    ///
    /// # Errors
    /// When the split is not generated.
    fn generate(&self, split: Split, index: u64) -> Result<Row> {
        default::generate(split, index)
    }

    /// Turns one row into zero or more problems.
    ///
    /// # Errors
    /// When the row lacks what a problem needs; the message names row and key.
    fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>>;

    /// Writes the prompt.
    ///
    /// # Errors
    /// When the problem lacks what the prompt needs.
    fn prompt(&self, problem: &Problem, role: Role) -> Result<String>;

    /// Decides a completion, or asks for a program to be run first.
    ///
    /// # Errors
    /// When the problem cannot be judged; a wrong completion is a verdict, not an error.
    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check>;

    /// Decides after the sandbox ran the program. Default: passed when every test passed.
    ///
    /// # Errors
    /// When the outcome cannot be judged.
    fn judge(&self, problem: &Problem, outcome: &Outcome) -> Result<Verdict> {
        let _ = problem;
        default::judge(outcome)
    }

    /// Cuts what the model wrote past its answer. Default: trailing white space.
    ///
    /// # Errors
    /// When the text cannot be cleaned.
    fn clean(&self, problem: &Problem, raw: &str) -> Result<String> {
        let _ = problem;
        default::clean(raw)
    }

    /// The reasoning steps of a cleaned completion. Default: non-empty lines, each its own chunk.
    ///
    /// # Errors
    /// When there are none to be found where there must be.
    fn steps(&self, problem: &Problem, completion: &str) -> Result<Vec<Step>> {
        let _ = problem;
        default::steps(completion)
    }

    /// The final answer in normal form, for reports and votes. Default: none.
    ///
    /// # Errors
    /// When the text cannot be read.
    fn answer(&self, completion: &str) -> Result<Option<String>> {
        let _ = completion;
        Ok(None)
    }

    /// What makes two completions "the same path". Default: the text itself.
    ///
    /// # Errors
    /// When the text cannot be read.
    fn signature(&self, problem: &Problem, completion: &str) -> Result<Signature> {
        let _ = problem;
        default::signature(completion)
    }

    /// Worked examples: the host joins `prompt(shot, Role::FewShot)` + `solution` with the card's separator.
    ///
    /// # Errors
    /// When they cannot be made.
    fn shots(&self) -> Result<Vec<Problem>> {
        Ok(Vec::new())
    }

    /// Extra numbers about a completion to average in the report. Default: none.
    ///
    /// # Errors
    /// When they cannot be computed.
    fn measure(&self, problem: &Problem, completion: &str, verdict: &Verdict) -> Result<Vec<Measure>> {
        let _ = (problem, completion, verdict);
        Ok(Vec::new())
    }

    /// Which steps are truly right, where the task can tell without a simulator: for the PRM's quality figures only, never for training. Default: not known.
    ///
    /// # Errors
    /// When they cannot be computed.
    fn step_truth(&self, problem: &Problem, completion: &str) -> Result<Option<Vec<bool>>> {
        let _ = (problem, completion);
        Ok(None)
    }

    /// A few embedded rows that `plugin check` and parity tests use. Default: the first rows of a generated split.
    ///
    /// # Errors
    /// When they cannot be made.
    fn fixtures(&self) -> Result<Vec<Row>> {
        default::fixtures(self)
    }
}
