//! The paper's outcome reward model: the architecture of `prm-deepseek`, every step trained on the outcome's label.
//!
//! - **Base**: as [`crate::PrmDeepseek`].
//! - **Reads**: as [`crate::PrmDeepseek`].
//! - **Score**: at the pad token after each step.
//! - **Reward**: mean over steps, so that it can be compared with the process reward model.
//! - **Training**: as [`crate::PrmDeepseek`], but no simulation: a step's label is whether its path is right.

use sipf_plugin::prelude::*;

use crate::prm_deepseek::{as_published, lines_with_pads};

/// The reward model `orm`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Orm;

impl RewardModel for Orm {
    fn card(&self) -> RewardCard {
        as_published(RewardCard::outcome("orm"))
            .summary("outcome labels on every step: read at a pad token after each step")
    }

    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        Ok(lines_with_pads(problem, steps))
    }
}
