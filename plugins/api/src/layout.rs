//! What a reward model reads, where its scores are read, and how they become one reward.

use serde::{Deserialize, Serialize};

/// A piece of what the reward model reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "piece", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Piece {
    /// Text, tokenised on its own without special tokens.
    Text {
        /// The text.
        text: String,
    },
    /// Where one step's score is read: one a step, in order.
    Marker,
    /// A conversation turn, written through the tokenizer's chat template.
    Turn {
        /// `system`, `user` or `assistant`.
        role: String,
        /// What is said; may hold the marker's token.
        text: String,
    },
}

impl Piece {
    /// A piece of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// A conversation turn.
    pub fn turn(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Turn { role: role.into(), text: text.into() }
    }
}

/// The tokens that stand for [`Piece::Marker`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "marker", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Marker {
    /// The pad token (the end-of-sequence token where there is none).
    Pad,
    /// One token of the vocabulary, by its text.
    Token {
        /// The token, for example `<extra_0>`.
        token: String,
    },
    /// Text whose last token is read.
    Text {
        /// The text, for example a line break.
        text: String,
    },
}

impl Default for Marker {
    /// A line break, as TRL separates steps.
    fn default() -> Self {
        Self::Text { text: "\n".into() }
    }
}

impl Default for Readout {
    /// A plain 2-label head, as TRL trains.
    fn default() -> Self {
        Self::Classifier { labels: 2, positive: 1, squash_hidden: false, with_logprobs: false }
    }
}

/// How a step's score comes out of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "readout", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Readout {
    /// A linear head on the last hidden state; the score is the positive label's probability.
    Classifier {
        /// Number of labels.
        labels: u8,
        /// The label that means "right".
        positive: u8,
        /// Apply a sigmoid to the hidden state first (the paper's code).
        squash_hidden: bool,
        /// Add the base model's own token log-probabilities of the step (min, running min, mean) as features.
        with_logprobs: bool,
    },
    /// Linear, ReLU, Linear on the last hidden state (Qwen2.5-Math-PRM).
    Mlp {
        /// Number of labels.
        labels: u8,
        /// The label that means "right".
        positive: u8,
    },
    /// Softmax over the logits of two tokens; the score is the good one's share.
    TokenPair {
        /// The token that means "right".
        good: String,
        /// The token that means "wrong".
        bad: String,
    },
}

/// How step scores become one reward (Eq. 5 is the mean).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Aggregate {
    /// Arithmetic mean (Eq. 5).
    #[default]
    Mean,
    /// The smallest.
    Min,
    /// The product.
    Product,
    /// The last.
    Last,
}

impl Aggregate {
    /// One reward of step scores; 0 for a path without steps.
    pub fn of(self, scores: &[f32]) -> f32 {
        if scores.is_empty() {
            return 0.0;
        }
        match self {
            Self::Mean => scores.iter().sum::<f32>() / scores.len() as f32,
            Self::Min => scores.iter().copied().fold(f32::INFINITY, f32::min),
            Self::Product => scores.iter().product(),
            Self::Last => scores[scores.len() - 1],
        }
    }
}

/// One reasoning step: bytes `start..end` of a completion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Steps of one chunk share their rollouts and label.
    pub chunk: u32,
}
