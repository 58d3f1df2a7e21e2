//! my-task: a process reward model, described; sipf owns the weights.
//!
//! - **Reads**: the question, then every step followed by a line break.
//! - **Score**: at the line break after each step, a plain 2-label head, label 1 is "right".
//! - **Reward**: the mean over steps (Eq. 5).
#![deny(unsafe_code)]

use sipf_plugin::prelude::*;

/// The reward model `my-task`.
#[derive(Default)]
pub struct MyReward;

impl RewardModel for MyReward {
    fn card(&self) -> RewardCard {
        RewardCard::process("my-task")
            .summary("a 2-label head at the end of each step")
            .marker(Marker::Text { text: "\n".into() })
            .readout(Readout::default())
            .aggregate(Aggregate::Mean)
            .training(Training { learning_rate: 1e-5, epochs: 3.0, ..Training::default() })
    }
}

sipf_plugin::export_reward!(MyReward);

#[cfg(test)]
mod tests {
    use super::*;
    use sipf_plugin::conformance::{all_hold, check_reward};

    #[test]
    fn everything_a_reward_model_must_hold_holds() {
        let findings = check_reward(&MyReward);
        assert!(all_hold(&findings), "{findings:#?}");
    }
}
