//! The paper's process reward model.
//!
//! - **Base**: deepseek-math-7b-rl for mathematics, deepseek-coder-6.7b-instruct for code.
//! - **Reads**: the question with `Please reason step by step.` (a code task's prompt as it is), then every step with
//!   its line end and one pad token.
//! - **Score**: at that pad token: sigmoid of the last hidden state, linear head with two labels, share of label 1.
//! - **Reward**: mean over steps (Eq. 5).
//! - **Training**: the authors' scripts: LoRA 16/32, AdamW 5e-5, linear with 10% warm-up, clip 0.3, 40 paths a step,
//!   10 epochs; gold solutions are all-right paths.
//! - **Not taken over**: NF4 double quantisation while training; the host trains in the precision it loads.

use sipf_plugin::prelude::*;

/// The reward model `prm-deepseek`.
#[derive(Debug, Default, Clone, Copy)]
pub struct PrmDeepseek;

/// The authors' training settings (their `prm.py`; formats in the paper's A.3).
pub(crate) fn training() -> Training {
    Training {
        learning_rate: 5e-5,
        batch: 40,
        epochs: 10.0,
        warmup_ratio: 0.1,
        max_grad_norm: 0.3,
        lora_rank: 16,
        lora_alpha: 32.0,
        lora_dropout: 0.05,
        ..Training::default()
    }
}

/// Card of the authors' architecture under another name or kind.
pub(crate) fn as_published(card: RewardCard) -> RewardCard {
    card.base(Domain::Math, "deepseek-ai/deepseek-math-7b-rl")
        .simulator(Domain::Math, "deepseek-ai/deepseek-math-7b-instruct")
        .base(Domain::Code, "deepseek-ai/deepseek-coder-6.7b-instruct")
        .simulator(Domain::Code, "deepseek-ai/deepseek-coder-6.7b-instruct")
        .marker(Marker::Pad)
        .readout(Readout::Classifier { labels: 2, positive: 1, squash_hidden: true, with_logprobs: false })
        .aggregate(Aggregate::Mean)
        .training(training())
}

/// The question, then every step with its line end and a pad token.
pub(crate) fn lines_with_pads(problem: &Problem, steps: &[&str]) -> Vec<Piece> {
    let asked = match crate::kept_prompt(problem) {
        Some(prompt) => prompt.to_owned(),
        None => format!("{}\nPlease reason step by step.\n", problem.question),
    };
    let mut pieces = vec![Piece::text(asked)];
    for step in steps {
        pieces.extend([Piece::text(format!("{step}\n")), Piece::Marker]);
    }
    pieces
}

impl RewardModel for PrmDeepseek {
    fn card(&self) -> RewardCard {
        as_published(RewardCard::process("prm-deepseek"))
            .summary("the paper's: read at a pad token after each step")
    }

    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        Ok(lines_with_pads(problem, steps))
    }
}
