//! RPO (Pang et al., 2404.19733) in TRL's form, `loss_type=["sigmoid", "sft"]`: DPO plus the negative log-likelihood of
//! chosen completions, one mean over all their tokens in the batch.

use serde_json::{Value, json};

use super::objective::{Half, PairLoss, PairsOutcome};
use super::tokens::{self, PairTokens};
use super::{Dpo, PreferenceRow};
use crate::Result;
use crate::model::Tokenizer;

/// RPO: DPO and imitation.
#[derive(Debug, Clone, PartialEq)]
pub struct Rpo {
    /// The preference part.
    pub dpo: Dpo,
    /// Weight of the preference part, and of imitation (TRL's `loss_weights`).
    pub weights: (f64, f64),
}

impl Rpo {
    /// Both parts with weight 1.
    pub fn new(dpo: Dpo) -> Self {
        Self { dpo, weights: (1.0, 1.0) }
    }
}

impl PairLoss for Rpo {
    fn tokens(&self, tokenizer: &Tokenizer, row: &PreferenceRow, max_length: usize) -> Result<PairTokens> {
        tokens::dpo(tokenizer, row, max_length)
    }

    fn of(&self, rows: &[usize], pairs: &[(Half, Half)]) -> PairsOutcome {
        let mut outcome = self.dpo.of(rows, pairs);
        let (preference, imitation) = self.weights;
        let tokens: f64 = pairs.iter().map(|(chosen, _)| chosen.tokens as f64).sum();
        let nll = -pairs.iter().map(|(chosen, _)| chosen.completion).sum::<f64>() / tokens;
        outcome.loss = preference * outcome.loss + imitation * nll;
        for slopes in &mut outcome.slopes {
            slopes.chosen = preference * slopes.chosen - imitation / tokens;
            slopes.rejected *= preference;
        }
        let count = pairs.len() as f64;
        outcome.metrics.add("nll_loss", nll * count, count);
        outcome
    }

    fn settings(&self) -> Value {
        json!({ "loss": "rpo", "weights": self.weights, "dpo": self.dpo.settings() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::Reference;

    #[test]
    fn imitation_is_a_mean_over_the_tokens_of_the_batch() {
        let half = |completion: f64, tokens: usize| Half { completion, tokens, ..Half::default() };
        let reference = Reference::of_values(vec![(-5.0, -7.0), (-1.0, -1.0)]);
        let rpo = Rpo::new(Dpo { beta: 0.1, reference });
        let outcome = rpo.of(&[0, 1], &[(half(-5.0, 3), half(-7.0, 4)), (half(-1.0, 1), half(-1.0, 2))]);
        assert!((outcome.loss - (std::f64::consts::LN_2 + 1.5)).abs() < 1e-12);
        assert!((outcome.slopes[0].chosen + 0.025 + 0.25).abs() < 1e-12);
    }
}
