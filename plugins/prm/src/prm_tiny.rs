//! The reward model of the embedded test bed: a strong small model's hidden state beside its own log-probabilities.
//!
//! - **Base**: `tiny-strong`.
//! - **Reads**: the prompt, then every step and its line break, as the base was trained to write them.
//! - **Score**: at the line break: a linear head with two labels over the last hidden state and the base's own
//!   log-probabilities of the step (smallest, smallest so far, mean); share of label 1. A head on the hidden state
//!   alone fails at this size.
//! - **Reward**: mean over steps (Eq. 5).
//! - **Training**: 300 steps of 32 paths, 3e-4, the head 2e-2, all weights.

use sipf_plugin::prelude::*;

/// The reward model `prm-tiny`.
#[derive(Debug, Default, Clone, Copy)]
pub struct PrmTiny;

impl RewardModel for PrmTiny {
    fn card(&self) -> RewardCard {
        RewardCard::process("prm-tiny")
            .summary("hidden state and log-probabilities, read at the line break after each step")
            .base(Domain::Math, "tiny-strong")
            .simulator(Domain::Math, "tiny-strong")
            .marker(Marker::Text { text: "\n".into() })
            .readout(Readout::Classifier {
                labels: 2,
                positive: 1,
                squash_hidden: false,
                with_logprobs: true,
            })
            .aggregate(Aggregate::Mean)
            .training(Training {
                learning_rate: 3e-4,
                head_learning_rate: 2e-2,
                batch: 32,
                max_steps: 300,
                weight_decay: 0.01,
                max_length: 512,
                ..Training::default()
            })
    }

    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        let asked =
            crate::kept_prompt(problem).map_or_else(|| format!("{}\n", problem.question), str::to_owned);
        let mut pieces = vec![Piece::text(asked)];
        for step in steps {
            pieces.extend([Piece::text(*step), Piece::Marker]);
        }
        Ok(pieces)
    }
}
