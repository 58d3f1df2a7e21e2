//! Whether a reward model can be read off a tokenizer's text at all.

use sipf_plugin::{Problem, RewardModel};

use super::{head, layout};
use crate::Result;
use crate::model::Tokenizer;

/// Lays a path out and looks for what is read, without any weights.
///
/// # Errors
/// When a token that is read is not in the vocabulary, or there is not exactly one place to read for each step.
pub fn fits(
    reward: &dyn RewardModel,
    tokenizer: &Tokenizer,
    problem: &Problem,
    steps: &[&str],
) -> Result<()> {
    let card = reward.card();
    head::check(&card.readout, tokenizer)?;
    layout::of_pieces(tokenizer, &card, &reward.layout(problem, steps)?, steps.len()).map(drop)
}
