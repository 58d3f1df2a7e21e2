//! TRL's stepwise supervision: a token classifier with two labels. The reward model used where none is named.
//!
//! - **Base**: whatever is named; the run's own base where nothing is.
//! - **Reads**: the prompt, then every step and the separator (a line break), each tokenised on its own; nothing
//!   between the prompt and the first step.
//! - **Score**: at the last token of the separator, no shift: share of label 1.
//! - **Reward**: mean over steps (Eq. 5).
//! - **Training**: TRL's defaults, 1e-5 and 1,024 tokens; labels are whole numbers.

use sipf_plugin::prelude::*;

/// The reward model `prm-trl`.
#[derive(Debug, Default, Clone, Copy)]
pub struct PrmTrl;

impl RewardModel for PrmTrl {
    fn card(&self) -> RewardCard {
        RewardCard::process("prm-trl")
            .summary("TRL's token classifier: read at the line break after each step")
            .marker(Marker::Text { text: "\n".into() })
            .readout(Readout::Classifier {
                labels: 2,
                positive: 1,
                squash_hidden: false,
                with_logprobs: false,
            })
            .aggregate(Aggregate::Mean)
    }

    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        let asked = crate::kept_prompt(problem).unwrap_or(&problem.question);
        let mut pieces = vec![Piece::text(asked)];
        for step in steps {
            pieces.extend([Piece::text(*step), Piece::Marker]);
        }
        Ok(pieces)
    }
}
