//! Direct preference optimisation (Rafailov et al., 2305.18290): the log-ratio to a reference model, of the chosen against
//! the rejected completion. SRF in the paper is DPO on the first round of samples.

use serde_json::{Value, json};

use super::PreferenceRow;
use super::objective::{Half, PairLoss, PairSlopes, PairsOutcome, add_rewards, log_sigmoid, sigmoid};
use super::reference::Reference;
use super::tokens::{self, PairTokens};
use crate::Result;
use crate::model::Tokenizer;
use crate::train::Metrics;

/// DPO against reference log-probabilities of the same pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Dpo {
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// Summed log-probabilities under the reference, one a pair.
    pub reference: Reference,
}

impl PairLoss for Dpo {
    fn tokens(&self, tokenizer: &Tokenizer, row: &PreferenceRow, max_length: usize) -> Result<PairTokens> {
        tokens::dpo(tokenizer, row, max_length)
    }

    fn of(&self, rows: &[usize], pairs: &[(Half, Half)]) -> PairsOutcome {
        let count = pairs.len() as f64;
        let mut loss = 0.0;
        let mut slopes = Vec::with_capacity(pairs.len());
        let mut rewards = Vec::with_capacity(pairs.len());
        for (row, (chosen, rejected)) in rows.iter().zip(pairs) {
            let (reference_w, reference_l) = self.reference.of(*row);
            let reward_w = self.beta * (chosen.completion - reference_w);
            let reward_l = self.beta * (rejected.completion - reference_l);
            loss -= log_sigmoid(reward_w - reward_l) / count;
            let pull = self.beta * sigmoid(reward_l - reward_w) / count;
            slopes.push(PairSlopes { chosen_prompt: 0.0, chosen: -pull, rejected: pull });
            rewards.push((reward_w, reward_l));
        }
        let mut metrics = Metrics::default();
        let sums: Vec<(f64, f64)> = pairs.iter().map(|(w, l)| (w.completion, l.completion)).collect();
        add_rewards(&mut metrics, &rewards, &sums);
        PairsOutcome { loss, slopes, metrics }
    }

    fn settings(&self) -> Value {
        json!({ "loss": "dpo", "beta": self.beta, "reference": self.reference.print() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(completion: f64, tokens: usize) -> Half {
        Half { completion, tokens, ..Half::default() }
    }

    #[test]
    fn at_the_reference_the_loss_is_ln_2_and_slopes_are_half_beta() {
        let reference = Reference::of_values(vec![(-5.0, -7.0)]);
        let outcome = Dpo { beta: 0.1, reference }.of(&[0], &[(half(-5.0, 3), half(-7.0, 4))]);
        assert!((outcome.loss - std::f64::consts::LN_2).abs() < 1e-12);
        assert!((outcome.slopes[0].chosen + 0.05).abs() < 1e-12);
        assert!((outcome.slopes[0].rejected - 0.05).abs() < 1e-12);
        assert_eq!(outcome.metrics.mean("rewards/margins"), Some(0.0));
        assert_eq!(outcome.metrics.mean("logps/chosen"), Some(-5.0));
    }

    #[test]
    fn slopes_are_the_derivatives() {
        let reference = Reference::of_values(vec![(0.0, 0.0), (-5.0, -7.0), (-2.0, -9.0)]);
        let dpo = Dpo { beta: 0.3, reference };
        let pairs = [(half(-4.0, 3), half(-9.0, 4)), (half(-6.0, 3), half(-3.0, 4))];
        let at = |w: f64, l: f64| {
            let mut moved = pairs;
            moved[1].0.completion += w;
            moved[1].1.completion += l;
            dpo.of(&[1, 2], &moved).loss
        };
        let slopes = dpo.of(&[1, 2], &pairs).slopes[1];
        let step = 1e-6;
        assert!(((at(step, 0.0) - at(-step, 0.0)) / (2.0 * step) - slopes.chosen).abs() < 1e-8);
        assert!(((at(0.0, step) - at(0.0, -step)) / (2.0 * step) - slopes.rejected).abs() < 1e-8);
    }
}
