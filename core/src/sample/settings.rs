//! How paths are drawn and which of them are kept.

use serde::{Deserialize, Serialize};
use sipf_plugin::TaskCard;

use crate::generate::Sampling;
use crate::{Error, Result};

/// Temperature of the paper's mathematical tasks (A.2); code: 0.7.
pub const TEMPERATURE: f32 = 1.0;
/// New tokens of a path (A.2, mathematics).
pub const MAX_TOKENS: usize = 512;
/// Attempts drawn at once per question (the authors' scripts).
pub const WAVE: usize = 30;
/// Attempts per question at most. Ours: the scripts stop after 30 s, which no two machines agree on.
pub const MAX_ATTEMPTS: usize = 90;
/// Right paths kept of a question in the first round (A.2, mathematics).
pub const POSITIVES: usize = 4;
/// Wrong paths kept of a question in the first round (A.2, mathematics).
pub const NEGATIVES: usize = 4;

/// Which paths a flaw in their signature (a false equation) leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EquationFilter {
    /// None.
    #[default]
    Off,
    /// Those that would be chosen in a pair; they stay among the samples.
    Chosen,
    /// All (the authors' scripts for mathematics).
    Both,
}

impl std::str::FromStr for EquationFilter {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "off" => Self::Off,
            "chosen" => Self::Chosen,
            "both" => Self::Both,
            other => {
                return Err(Error::unusable(format!(
                    "equation filter {other:?} is none of off, chosen, both"
                )));
            }
        })
    }
}

/// How paths are drawn and which of them are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct SampleSettings {
    /// What logits are divided by.
    #[serde(serialize_with = "crate::record::as_written")]
    pub temperature: f32,
    /// Keep the most likely tokens that hold this much probability together; 1 keeps all.
    #[serde(serialize_with = "crate::record::as_written")]
    pub top_p: f32,
    /// Keep this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// New tokens of a path at most.
    pub max_tokens: usize,
    /// Texts that end a path; none given: the task's.
    pub stop: Vec<String>,
    /// Attempts drawn at once per question. Changes what is drawn in vain, not what is kept.
    pub wave: usize,
    /// Attempts per question at most.
    pub max_attempts: usize,
    /// Distinct right paths to keep of a question in the first round; 0: all.
    pub positives: usize,
    /// Distinct wrong paths to keep of a question in the first round; 0: all.
    pub negatives: usize,
    /// Which paths a false equation leaves out.
    pub equation_filter: EquationFilter,
}

impl Default for SampleSettings {
    fn default() -> Self {
        Self {
            temperature: TEMPERATURE,
            top_p: 1.0,
            top_k: 0,
            max_tokens: MAX_TOKENS,
            stop: Vec::new(),
            wave: WAVE,
            max_attempts: MAX_ATTEMPTS,
            positives: POSITIVES,
            negatives: NEGATIVES,
            equation_filter: EquationFilter::Off,
        }
    }
}

impl SampleSettings {
    /// The defaults with what the task's card says.
    ///
    /// # Errors
    /// When the card names an equation filter that there is not.
    pub fn of(card: &TaskCard) -> Result<Self> {
        Ok(Self {
            temperature: card.temperature,
            max_tokens: card.max_tokens,
            positives: card.positives,
            negatives: card.negatives,
            equation_filter: match card.equation_filter.as_str() {
                "" => EquationFilter::Off,
                name => name.parse()?,
            },
            ..Self::default()
        })
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check(&self) -> Result<()> {
        for (name, count) in [("wave", self.wave), ("max-attempts", self.max_attempts)] {
            Error::unless(count > 0, name, count, "1 or more")?;
        }
        self.drawn(&[]).check()
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
