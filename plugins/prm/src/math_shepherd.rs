//! Math-Shepherd's published reward model (Wang et al., 2024): a causal model that writes `+` or `-` at a step tag.
//!
//! - **Base**: `peiyi9979/math-shepherd-mistral-7b-prm`, trained already.
//! - **Reads**: `question Step 1: ... ки`, line break, `Step 2: ... ки`; a space stands before every tag, which the
//!   vocabulary writes as part of the token (`▁ки`).
//! - **Score**: at the tag itself: softmax over the logits of `▁+` and `▁-`, share of `▁+`.
//! - **Reward**: the smallest step score, as its authors use it.
//! - **Training**: none here.
//! - **Departure**: its authors end the last step with `The answer is: n`; answer lines are no steps here.

use sipf_plugin::prelude::*;

/// The reward model `prm-math-shepherd`.
#[derive(Debug, Default, Clone, Copy)]
pub struct PrmMathShepherd;

impl RewardModel for PrmMathShepherd {
    fn card(&self) -> RewardCard {
        RewardCard::process("prm-math-shepherd")
            .summary("Math-Shepherd: + against -, read at the tag ки after each step")
            .base(Domain::Math, "peiyi9979/math-shepherd-mistral-7b-prm")
            .marker(Marker::Token { token: "▁ки".into() })
            .readout(Readout::TokenPair { good: "▁+".into(), bad: "▁-".into() })
            .aggregate(Aggregate::Min)
            .pretrained()
    }

    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(2 * steps.len());
        for (number, step) in (1..).zip(steps) {
            pieces.push(Piece::text(match number {
                1 => format!("{} Step 1: {step}", problem.question),
                _ => format!("\nStep {number}: {step}"),
            }));
            pieces.push(Piece::Marker);
        }
        Ok(pieces)
    }
}
