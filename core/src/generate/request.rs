//! What is asked of a generator and what comes back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How tokens are drawn. The definitions are those of `transformers`, in its order: repetition penalty,
/// temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the first largest logit (greedy).
    pub temperature: f32,
    /// Keep the most likely tokens that hold this much probability together; 1 keeps all.
    pub top_p: f32,
    /// Keep this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep tokens at least this share as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens that occurred before, prompt included; 1 is off.
    pub repetition_penalty: f32,
    /// At most this many new tokens.
    pub max_tokens: usize,
    /// Texts that end a completion; the text is cut right before the first of them.
    pub stop: Vec<String>,
    /// Whether to return the log-probability of each token, under the model and without any of the above.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub logprobs: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_tokens: 256,
            stop: Vec::new(),
            logprobs: false,
        }
    }
}

impl Sampling {
    /// Greedy decoding of at most `max_tokens` tokens.
    pub fn greedy(max_tokens: usize) -> Self {
        Self { temperature: 0.0, max_tokens, ..Self::default() }
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check(&self) -> Result<()> {
        let temperature = self.temperature;
        let holds = temperature >= 0.0 && temperature.is_finite();
        Error::unless(holds, "temperature", temperature, "0 (greedy) or more")?;
        let holds = self.top_p > 0.0 && self.top_p <= 1.0;
        Error::unless(holds, "top-p", self.top_p, "above 0 and at most 1")?;
        Error::unless((0.0..=1.0).contains(&self.min_p), "min-p", self.min_p, "between 0 and 1")?;
        let penalty = self.repetition_penalty;
        let holds = penalty > 0.0 && penalty.is_finite();
        Error::unless(holds, "repetition-penalty", penalty, "above 0 (1 is off)")?;
        Error::unless(self.max_tokens > 0, "max-tokens", self.max_tokens, "1 or more")?;
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::unusable("a stop string is empty"));
        }
        Ok(())
    }
}

/// One prompt to complete once.
#[derive(Debug, Clone)]
pub struct Request {
    /// The caller's name for it; comes back with the completion.
    pub tag: u64,
    /// Key of the random stream ([`crate::stream::StreamName::key`]); the counter is the number of the new token.
    pub stream: u64,
    /// Token ids, BOS included where the model wants one.
    pub prompt: Vec<u32>,
    /// How to draw.
    pub sampling: Arc<Sampling>,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Finish {
    /// The model wrote an end-of-sequence token.
    Eos,
    /// A stop string occurred.
    Stop,
    /// The number of tokens, or the model's context, was used up.
    Length,
    /// The caller did not want it any more.
    Cancelled,
}

impl From<Finish> for &'static str {
    fn from(finish: Finish) -> Self {
        finish.reason()
    }
}

impl TryFrom<String> for Finish {
    type Error = String;

    /// `stop` reads as [`Finish::Eos`]: files do not tell the two apart.
    fn try_from(reason: String) -> std::result::Result<Self, String> {
        match reason.as_str() {
            "stop" => Ok(Self::Eos),
            "length" => Ok(Self::Length),
            "cancelled" => Ok(Self::Cancelled),
            _ => Err(format!("finish reason {reason:?} is none of stop, length, cancelled")),
        }
    }
}

impl Finish {
    /// The name in files and in JSON, as OpenAI's interface has it: `stop` for EOS and stop strings alike.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Eos | Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a model wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The new tokens, a final EOS included.
    pub ids: Vec<u32>,
    /// Their text, without special tokens, cut right before a stop string.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Log-probability of each token, where [`Sampling::logprobs`] asked for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub logprobs: Option<Vec<f32>>,
}
