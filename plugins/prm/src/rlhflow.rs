//! RLHFlow's published reward models: a chat in which the assistant answers every step with `+`.
//!
//! - **Base**: `RLHFlow/Llama3.1-8B-PRM-Deepseek-Data`, trained already.
//! - **Reads**: a user's turn for each step (the question stands before the first), each followed by the assistant's
//!   turn `+`, through the tokenizer's chat template.
//! - **Score**: one position before the assistant's `+`: softmax over the logits of `+` and `-`, share of `+`.
//! - **Reward**: mean over steps.
//! - **Training**: none here.

use sipf_plugin::prelude::*;

/// The reward model `prm-rlhflow`.
#[derive(Debug, Default, Clone, Copy)]
pub struct PrmRlhflow;

impl RewardModel for PrmRlhflow {
    fn card(&self) -> RewardCard {
        RewardCard::process("prm-rlhflow")
            .summary("RLHFlow: + against -, read one token before the assistant's + after each step")
            .base(Domain::Math, "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data")
            .marker(Marker::Token { token: "+".into() })
            .readout(Readout::TokenPair { good: "+".into(), bad: "-".into() })
            .offset(-1)
            .aggregate(Aggregate::Mean)
            .pretrained()
    }

    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(2 * steps.len());
        for (number, step) in steps.iter().enumerate() {
            let said = match number {
                0 => format!("{} {step}", problem.question),
                _ => (*step).to_owned(),
            };
            pieces.extend([Piece::turn("user", said), Piece::turn("assistant", "+")]);
        }
        Ok(pieces)
    }
}
