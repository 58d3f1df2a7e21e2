//! Odds-ratio preference optimisation (Hong et al., 2403.07691; Eq. 7-8): imitate the chosen completion and widen the
//! odds against the rejected one.
//!
//! `loss = NLL - mean(beta * log sigmoid(log odds ratio))`, the odds of mean log-probabilities of completion tokens.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PreferenceRow;
use super::objective::{Half, PairLoss, PairSlopes, PairsOutcome, add_rewards, log_sigmoid, sigmoid};
use super::tokens::{self, PairTokens};
use crate::model::Tokenizer;
use crate::train::Metrics;
use crate::{Error, Result};

/// Over which tokens of the chosen half the negative log-likelihood goes, and how it is averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NllScope {
    /// Prompt and completion, one mean over all tokens of the batch: TRL, xfactlab/orpo, Axolotl.
    #[default]
    Sequence,
    /// Completion only, one mean over all tokens of the batch: TRL from #2502 to #2527, xfactlab's `disable_prompt_loss`.
    Completion,
    /// Prompt and completion, a mean over each row, then over rows.
    SequenceMean,
    /// Completion only, a mean over each row, then over rows: LLaMA-Factory.
    CompletionMean,
}

impl NllScope {
    fn with_prompt(self) -> bool {
        matches!(self, Self::Sequence | Self::SequenceMean)
    }

    fn by_row(self) -> bool {
        matches!(self, Self::SequenceMean | Self::CompletionMean)
    }
}

impl std::str::FromStr for NllScope {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "sequence" | "trl" | "xfactlab" | "axolotl" => Self::Sequence,
            "completion" => Self::Completion,
            "sequence-mean" => Self::SequenceMean,
            "completion-mean" | "llama-factory" => Self::CompletionMean,
            other => {
                return Err(Error::unusable(format!(
                    "{other:?} is no nll-scope: sequence (trl, xfactlab, axolotl), completion, sequence-mean or \
                     completion-mean (llama-factory)"
                )));
            }
        })
    }
}

/// ORPO's settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Orpo {
    /// Weight of the odds ratio (lambda in the paper, alpha elsewhere).
    pub beta: f64,
    /// What is imitated.
    pub nll_scope: NllScope,
}

impl Default for Orpo {
    fn default() -> Self {
        Self { beta: 0.1, nll_scope: NllScope::Sequence }
    }
}

/// Mean log-probabilities are kept this far below 0, where the odds are infinite.
const BELOW_ONE: f64 = -1e-7;

/// `log(1 - exp(x))` for `x < 0`, precise near 0 and far from it (TRL since #4763).
fn log_one_minus_exp(x: f64) -> f64 {
    match x < -std::f64::consts::LN_2 {
        true => (-x.exp()).ln_1p(),
        false => (-x.exp_m1()).ln(),
    }
}

/// Log-odds of a mean log-probability, and their derivative by it.
fn log_odds(mean: f64) -> (f64, f64) {
    let x = mean.min(BELOW_ONE);
    (x - log_one_minus_exp(x), -1.0 / x.exp_m1())
}

impl PairLoss for Orpo {
    fn tokens(&self, tokenizer: &Tokenizer, row: &PreferenceRow, max_length: usize) -> Result<PairTokens> {
        tokens::orpo(tokenizer, row, max_length)
    }

    fn reads_prompt(&self) -> bool {
        self.nll_scope.with_prompt()
    }

    fn of(&self, _: &[usize], pairs: &[(Half, Half)]) -> PairsOutcome {
        let count = pairs.len() as f64;
        // Tokens that the negative log-likelihood goes over: of one half, and of all.
        let tokens = |half: &Half| (half.prompt_tokens + half.tokens) as f64;
        let all: f64 = pairs.iter().map(|(chosen, _)| tokens(chosen)).sum();
        let (mut nll, mut ratios, mut odds) = (0.0, 0.0, 0.0);
        let mut slopes = Vec::with_capacity(pairs.len());
        for (chosen, rejected) in pairs {
            let share = if self.nll_scope.by_row() { tokens(chosen) * count } else { all };
            nll -= (chosen.prompt + chosen.completion) / share;
            let (odds_w, slope_w) = log_odds(chosen.mean());
            let (odds_l, slope_l) = log_odds(rejected.mean());
            let log_ratio = odds_w - odds_l;
            ratios += log_sigmoid(log_ratio);
            odds += log_ratio;
            let pull = -self.beta * sigmoid(-log_ratio) / count;
            slopes.push(PairSlopes {
                chosen_prompt: -1.0 / share,
                chosen: -1.0 / share + pull * slope_w / chosen.tokens as f64,
                rejected: -pull * slope_l / rejected.tokens as f64,
            });
        }
        let mut metrics = Metrics::default();
        let means: Vec<(f64, f64)> = pairs.iter().map(|(w, l)| (w.mean(), l.mean())).collect();
        let rewards: Vec<(f64, f64)> = means.iter().map(|(w, l)| (self.beta * w, self.beta * l)).collect();
        add_rewards(&mut metrics, &rewards, &means);
        metrics.add("nll_loss", nll * count, count);
        metrics.add("log_odds_ratio", ratios, count);
        metrics.add("log_odds_chosen", odds, count);
        PairsOutcome { loss: nll - self.beta * ratios / count, slopes, metrics }
    }

    fn settings(&self) -> Value {
        json!({ "loss": "orpo", "beta": self.beta, "nll-scope": self.nll_scope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(prompt: f64, completion: f64, prompt_tokens: usize, tokens: usize) -> Half {
        Half { prompt, prompt_tokens, completion, tokens }
    }

    #[test]
    fn equal_halves_give_minus_ln_2() {
        let pair = (half(-3.0, -2.0, 2, 4), half(0.0, -4.0, 0, 8));
        let outcome =
            Orpo { beta: 1.0, nll_scope: NllScope::Completion }.of(&[0], &[(half(0.0, -2.0, 0, 4), pair.1)]);
        assert!(
            (outcome.metrics.mean("log_odds_ratio").expect("logged") + std::f64::consts::LN_2).abs() < 1e-12
        );
        assert_eq!(outcome.metrics.mean("log_odds_chosen"), Some(0.0));
        assert!((outcome.loss - (0.5 + std::f64::consts::LN_2)).abs() < 1e-12);
        let outcome = Orpo { beta: 1.0, ..Orpo::default() }.of(&[0], &[pair]);
        assert!((outcome.loss - (5.0 / 6.0 + std::f64::consts::LN_2)).abs() < 1e-12);
    }

    #[test]
    fn log_one_minus_exp_is_precise_on_both_branches() {
        for (x, wanted) in [
            (-1e-10, -23.025_850_929_990_457),
            (-std::f64::consts::LN_2, -std::f64::consts::LN_2),
            (-1.0, -0.458_675_145_387_081_9),
            (-40.0, -4.248_354_255_291_589e-18),
        ] {
            assert!((log_one_minus_exp(x) / wanted - 1.0).abs() < 1e-9, "{x}: {}", log_one_minus_exp(x));
        }
    }

    #[test]
    fn a_certain_completion_is_no_infinity() {
        let outcome = Orpo::default().of(&[0], &[(half(-1.0, 0.0, 1, 3), half(0.0, -2.0, 0, 2))]);
        let slope = outcome.slopes[0];
        assert!(outcome.loss.is_finite() && slope.chosen.is_finite() && slope.rejected.is_finite());
    }

    #[test]
    fn slopes_are_the_derivatives_of_every_scope() {
        let pairs = [
            (half(-3.1, -2.2, 4, 5), half(0.0, -6.3, 0, 7)),
            (half(-1.4, -0.4, 2, 3), half(0.0, -0.2, 0, 2)),
        ];
        for nll_scope in
            [NllScope::Sequence, NllScope::Completion, NllScope::SequenceMean, NllScope::CompletionMean]
        {
            let orpo = Orpo { beta: 0.7, nll_scope };
            let mut pairs = pairs;
            if !orpo.reads_prompt() {
                pairs.iter_mut().for_each(|pair| (pair.0.prompt, pair.0.prompt_tokens) = (0.0, 0));
            }
            let slopes = orpo.of(&[0, 1], &pairs).slopes;
            let step = 1e-6;
            for number in 0..2 {
                let by = |change: &dyn Fn(&mut (Half, Half), f64)| {
                    let at = |size: f64| {
                        let mut moved = pairs;
                        change(&mut moved[number], size);
                        orpo.of(&[0, 1], &moved).loss
                    };
                    (at(step) - at(-step)) / (2.0 * step)
                };
                let close =
                    |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-8, "{found} {wanted}");
                if orpo.reads_prompt() {
                    close(by(&|pair, size| pair.0.prompt += size), slopes[number].chosen_prompt);
                }
                close(by(&|pair, size| pair.0.completion += size), slopes[number].chosen);
                close(by(&|pair, size| pair.1.completion += size), slopes[number].rejected);
            }
        }
    }
}
