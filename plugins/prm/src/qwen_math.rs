//! Qwen2.5-Math-PRM (Zhang et al., 2025): a two-layer head read at a special token after every step.
//!
//! - **Base**: `Qwen/Qwen2.5-Math-PRM-7B`, trained already.
//! - **Reads**: a chat: its authors' system prompt, the question, and the assistant's steps, each followed by
//!   `<extra_0>`.
//! - **Score**: at `<extra_0>`: Linear, ReLU, Linear over the last hidden state, share of label 1.
//! - **Reward**: mean over steps (Eq. 5).
//! - **Training**: none here.

use sipf_plugin::prelude::*;

/// The reward model `prm-qwen2.5-math`.
#[derive(Debug, Default, Clone, Copy)]
pub struct PrmQwenMath;

const SYSTEM: &str = "Please reason step by step, and put your final answer within \\boxed{}.";
const TAG: &str = "<extra_0>";

impl RewardModel for PrmQwenMath {
    fn card(&self) -> RewardCard {
        RewardCard::process("prm-qwen2.5-math")
            .summary("Qwen2.5-Math-PRM: two-layer head, read at <extra_0> after each step")
            .base(Domain::Math, "Qwen/Qwen2.5-Math-PRM-7B")
            .marker(Marker::Token { token: TAG.into() })
            .readout(Readout::Mlp { labels: 2, positive: 1 })
            .aggregate(Aggregate::Mean)
            .pretrained()
    }

    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        let said: String = steps.iter().flat_map(|step| [*step, TAG]).collect();
        Ok(vec![
            Piece::turn("system", SYSTEM),
            Piece::turn("user", problem.question.as_str()),
            Piece::turn("assistant", said),
        ])
    }
}
