//! What an evaluation keeps of each problem: the greedy answer, the sampled ones, and what was said of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sipf_plugin::Problem;

use super::vote;
use crate::verify::Judged;

/// A problem and what the model answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answers {
    /// The problem's id.
    pub problem: String,
    /// Problems of one group are one unit to intervals and pass@k; the id where the problem names none.
    pub group: String,
    /// What is asked.
    pub question: String,
    /// The right answer, else the reference solution, else nothing.
    pub target: String,
    /// What the model read.
    pub prompt: String,
    /// The answer at temperature 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub greedy: Option<Answer>,
    /// The sampled answers, in order of their index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Answer>,
}

/// One completion and the verdict on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// What the model wrote, cleaned by the task.
    pub completion: String,
    /// The verdict.
    #[serde(flatten)]
    pub judged: Judged,
    /// New tokens.
    pub tokens: u64,
    /// It ran into the token limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The task's own measures, by name, in the precision of `f32`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, f32>,
    /// The reward model's reward of the path (Eq. 5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<f32>,
    /// Why the reward model could not score it; its reward is 0 then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unscored: Option<String>,
    /// Why there is no verdict: the task or the sandbox failed. Such an answer counts as wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Answer {
    /// An answer that could not be made or judged.
    pub(super) fn failed(error: impl ToString) -> Self {
        Self { error: Some(error.to_string()), ..Self::default() }
    }

    /// Neither right nor wrong to the sandbox; counts as wrong.
    pub fn undecided(&self) -> bool {
        self.judged.verdict.is_some_and(sipf_plugin::RunVerdict::is_undecided)
    }

    /// A measure's value; without a verdict it is 0, whatever the measure.
    pub(super) fn measure(&self, name: &str) -> Option<f64> {
        match self.error {
            Some(_) => Some(0.0),
            None => self.measures.get(name).map(|value| f64::from(*value)),
        }
    }
}

impl Answers {
    /// Of this problem, nothing answered yet.
    pub(super) fn of(problem: &Problem, prompt: String) -> Self {
        let named = match problem.extra.get("group") {
            Some(serde_json::Value::String(name)) => Some(name.clone()),
            Some(serde_json::Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        Self {
            problem: problem.id.clone(),
            group: named.unwrap_or_else(|| problem.id.clone()),
            question: problem.question.clone(),
            target: problem.answer.clone().or_else(|| problem.solution.clone()).unwrap_or_default(),
            prompt,
            greedy: None,
            samples: Vec::new(),
        }
    }

    /// Every answer, the greedy one first.
    pub fn all(&self) -> impl Iterator<Item = &Answer> {
        self.greedy.iter().chain(&self.samples)
    }

    /// Whether the answer that most samples gave is right.
    pub(super) fn majority(&self) -> Option<bool> {
        vote::winner(self.samples.iter().map(|sample| (sample.judged.answer.as_deref(), 1.0)))
            .map(|place| self.right_at(place))
    }

    /// Whether the answer with the largest sum of rewards is right.
    pub(super) fn reward_vote(&self) -> Option<bool> {
        let votes: Option<Vec<(Option<&str>, f64)>> = self
            .samples
            .iter()
            .map(|sample| Some((sample.judged.answer.as_deref(), f64::from(sample.reward?))))
            .collect();
        vote::winner(votes?).map(|place| self.right_at(place))
    }

    /// The sample with the largest reward, the first of equals.
    pub(super) fn best(&self) -> Option<&Answer> {
        let rewards: Option<Vec<f32>> = self.samples.iter().map(|sample| sample.reward).collect();
        vote::first_largest(&rewards?).map(|place| &self.samples[place])
    }

    fn right_at(&self, place: Option<usize>) -> bool {
        place.is_some_and(|place| self.samples[place].judged.passed)
    }
}
