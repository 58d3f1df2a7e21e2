//! How step labels are made.

use serde::{Deserialize, Serialize};
use sipf_plugin::TaskCard;

use crate::generate::Sampling;
use crate::{Error, Result};

/// Rollouts of a step at most, K (the paper's section 4.1).
pub const ROLLOUTS: u32 = 8;
/// A step is right when more than so many rollouts are, mu in Eq. 2 (the authors' scripts; the paper gives no number).
pub const THRESHOLD: u32 = 0;
/// Temperature of the simulator for mathematics (the paper's section 4.1); code: 0.7.
pub const TEMPERATURE: f32 = 1.0;
/// New tokens of a rollout.
pub const MAX_TOKENS: usize = 512;
/// Largest chance of a blind guess: beyond it "any of K is right" says nothing (docs/stages.md).
pub const MAX_CHANCE: f32 = 0.2;
/// Paths labelled of a question. Ours: the paper labels "some examples" (Eq. 3).
pub const PATHS_PER_QUESTION: usize = 4;

/// How step labels are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct SimulateSettings {
    /// Rollouts of a step at most (K).
    pub rollouts: u32,
    /// A step is right when more than so many rollouts are (mu in Eq. 2).
    pub threshold: u32,
    /// Run all K rollouts of every step; otherwise a step's rollouts stop once its label is decided.
    pub full_counts: bool,
    /// Labels are the share of right rollouts; implies all K of them.
    pub soft_labels: bool,
    /// What logits are divided by.
    #[serde(serialize_with = "crate::record::as_written")]
    pub temperature: f32,
    /// Keep the most likely tokens that hold this much probability together; 1 keeps all.
    #[serde(serialize_with = "crate::record::as_written")]
    pub top_p: f32,
    /// Keep this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// New tokens of a rollout at most.
    pub max_tokens: usize,
    /// Texts that end a rollout; none given: the task's.
    pub stop: Vec<String>,
    /// Leave out problems that a blind guess gets right more often than this.
    #[serde(serialize_with = "crate::record::as_written")]
    pub max_chance: f32,
    /// Paths labelled of a question, right and wrong ones in turn; 0: all.
    pub paths_per_question: usize,
    /// Questions of which paths are labelled, drawn by seed; 0: all.
    pub questions: usize,
    /// Add the reference solutions of these questions, every step right.
    pub gold: bool,
}

impl Default for SimulateSettings {
    fn default() -> Self {
        Self {
            rollouts: ROLLOUTS,
            threshold: THRESHOLD,
            full_counts: false,
            soft_labels: false,
            temperature: TEMPERATURE,
            top_p: 1.0,
            top_k: 0,
            max_tokens: MAX_TOKENS,
            stop: Vec::new(),
            max_chance: MAX_CHANCE,
            paths_per_question: PATHS_PER_QUESTION,
            questions: 0,
            gold: true,
        }
    }
}

impl SimulateSettings {
    /// The defaults with what the task's card says.
    pub fn of(card: &TaskCard) -> Self {
        let own = card.simulator_temperature;
        Self {
            temperature: if own > 0.0 { own } else { card.temperature },
            max_tokens: card.max_tokens,
            max_chance: card.max_chance,
            ..Self::default()
        }
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check(&self) -> Result<()> {
        Error::unless(self.rollouts > 0, "rollouts", self.rollouts, "1 or more")?;
        let range = format!("below rollouts ({}), or no step could ever be right", self.rollouts);
        Error::unless(self.threshold < self.rollouts, "threshold", self.threshold, &range)?;
        let share = (0.0..=1.0).contains(&self.max_chance);
        Error::unless(share, "max-chance", self.max_chance, "between 0 and 1")?;
        self.drawn(&[]).check()
    }

    /// Whether every rollout is run, decided or not.
    pub fn runs_all(&self) -> bool {
        self.full_counts || self.soft_labels
    }

    /// How tokens are drawn; `stop` stands in where the settings name no stop strings.
    pub(super) fn drawn(&self, stop: &[String]) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            max_tokens: self.max_tokens,
            stop: if self.stop.is_empty() { stop.to_vec() } else { self.stop.clone() },
            ..Sampling::default()
        }
    }
}
