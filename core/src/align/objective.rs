//! Preference pairs as an [`Objective`]: both halves of a batch go through the decoder in one packed pass, and a
//! [`PairLoss`] says what their log-probabilities cost.

use std::path::Path;

use candle_core::Var;
use serde_json::Value;

use super::scored::{Item, Part, Scored, pair_tokens, score};
use super::sft::save;
use super::tokens::{self, PairTokens};
use super::{BadRows, PreferenceRow};
use crate::Result;
use crate::model::{Decoder, Pass, Tokenizer};
use crate::train::{Fingerprint, Metrics, Objective, PartialLoss, with_slopes};

/// Summed log-probabilities of one half of a pair, and over how many tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Half {
    /// Of the prompt; 0 where the loss does not look at it.
    pub prompt: f64,
    /// Tokens of the prompt that were scored.
    pub prompt_tokens: usize,
    /// Of the completion.
    pub completion: f64,
    /// Tokens of the completion.
    pub tokens: usize,
}

impl Half {
    /// Mean log-probability of a completion token.
    pub fn mean(&self) -> f64 {
        self.completion / self.tokens as f64
    }
}

/// Derivatives of a loss by each single log-probability in a part.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PairSlopes {
    /// Tokens of the chosen half's prompt.
    pub chosen_prompt: f64,
    /// Tokens of the chosen completion.
    pub chosen: f64,
    /// Tokens of the rejected completion.
    pub rejected: f64,
}

/// What a loss says of a batch.
#[derive(Debug, Default)]
pub struct PairsOutcome {
    /// Mean over the pairs.
    pub loss: f64,
    /// Derivatives of `loss`, one a pair.
    pub slopes: Vec<PairSlopes>,
    /// What to log, under TRL's names.
    pub metrics: Metrics,
}

/// A loss over preference pairs, as a function of summed log-probabilities.
pub trait PairLoss {
    /// Tokenises a pair.
    ///
    /// # Errors
    /// When the tokenizer fails, or a half has no token to learn from.
    fn tokens(&self, tokenizer: &Tokenizer, row: &PreferenceRow, max_length: usize) -> Result<PairTokens>;

    /// Whether it looks at the prompt of the chosen half.
    fn reads_prompt(&self) -> bool {
        false
    }

    /// Loss, slopes and metrics of these pairs; `rows` are their numbers in the objective.
    fn of(&self, rows: &[usize], pairs: &[(Half, Half)]) -> PairsOutcome;

    /// Its name and settings.
    fn settings(&self) -> Value;
}

/// A [`PairLoss`] over tokenised pairs on a decoder.
pub struct PairObjective<L> {
    decoder: Decoder,
    base: String,
    pairs: Vec<PairTokens>,
    loss: L,
}

/// Log-probabilities of both halves of pairs, in one pass.
pub(super) fn score_pairs(
    decoder: &Decoder,
    pairs: &[&PairTokens],
    with_prompt: bool,
    pass: &Pass,
) -> Result<Scored> {
    let items: Vec<Item<'_>> = pairs
        .iter()
        .map(|pair| Item { first: &pair.chosen, with_prompt, second: Some(&pair.rejected) })
        .collect();
    score(decoder, &items, pass)
}

/// The parts of a pass by pairs: chosen and rejected.
fn by_pair(scored: &Scored) -> impl Iterator<Item = (&Part, &Part)> {
    scored.parts.as_chunks::<2>().0.iter().map(|[chosen, rejected]| (chosen, rejected))
}

/// The sums of each pair's halves.
pub(super) fn halves(scored: &Scored) -> Result<Vec<(Half, Half)>> {
    let values = scored.tokens.logprobs.to_vec1::<f32>()?;
    let sum = |range: &std::ops::Range<usize>| values[range.clone()].iter().map(|x| f64::from(*x)).sum();
    let half = |part: &Part| Half {
        prompt: sum(&part.prompt),
        prompt_tokens: part.prompt.len(),
        completion: sum(&part.completion),
        tokens: part.completion.len(),
    };
    Ok(by_pair(scored).map(|(chosen, rejected)| (half(chosen), half(rejected))).collect())
}

impl<L: PairLoss> PairObjective<L> {
    /// Tokenises the rows as the loss wants them.
    ///
    /// # Errors
    /// When the tokenizer fails or a pair has no token to learn from.
    pub fn new(
        decoder: Decoder,
        tokenizer: &Tokenizer,
        rows: &[PreferenceRow],
        loss: L,
        max_length: usize,
    ) -> Result<Self> {
        Self::sifted(decoder, tokenizer, rows, loss, max_length, &mut BadRows::stop())
    }

    /// As [`Self::new`], leaving pairs without a token to learn from to `bad`.
    ///
    /// # Errors
    /// As [`Self::new`], where `bad` stops at the first such pair; when no pair is left.
    pub fn sifted(
        decoder: Decoder,
        tokenizer: &Tokenizer,
        rows: &[PreferenceRow],
        loss: L,
        max_length: usize,
        bad: &mut BadRows,
    ) -> Result<Self> {
        let pairs = tokens::pairs(&loss, tokenizer, rows, max_length, bad)?;
        Ok(Self::of_tokens(decoder, pairs, loss))
    }

    /// Over pairs that are tokenised already.
    pub fn of_tokens(decoder: Decoder, pairs: Vec<PairTokens>, loss: L) -> Self {
        Self { decoder, base: String::new(), pairs, loss }
    }

    /// Names the base model in a saved adapter.
    #[must_use]
    pub fn over(mut self, base: &str) -> Self {
        self.base = base.to_owned();
        self
    }

    /// The tokenised pairs.
    pub fn pairs(&self) -> &[PairTokens] {
        &self.pairs
    }

    /// Means of the logits over each half's completions, as TRL logs them; not where logits are capped.
    fn add_logits(&self, scored: &Scored, metrics: &mut Metrics) -> Result<()> {
        let head = self.decoder.head();
        if head.softcap.is_some() {
            return Ok(());
        }
        let mean = head.weight.detach().mean(0)?.unsqueeze(1)?;
        let logits = scored.hidden.matmul(&mean)?.squeeze(1)?.to_dtype(candle_core::DType::F32)?;
        let logits = logits.to_vec1::<f32>()?;
        let bias = match &head.bias {
            Some(bias) => f64::from(bias.mean_all()?.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?),
            None => 0.0,
        };
        for (chosen, rejected) in by_pair(scored) {
            for (name, part) in [("logits/chosen", chosen), ("logits/rejected", rejected)] {
                let sum: f64 = logits[part.completion.clone()].iter().map(|x| f64::from(*x) + bias).sum();
                metrics.add(name, sum, part.completion.len() as f64);
            }
        }
        Ok(())
    }
}

impl<L: PairLoss> Objective for PairObjective<L> {
    fn rows(&self) -> usize {
        self.pairs.len()
    }

    fn tokens(&self, row: usize) -> usize {
        pair_tokens(&self.pairs[row].chosen, &self.pairs[row].rejected)
    }

    fn name(&self, row: usize) -> String {
        self.pairs[row].place.clone()
    }

    fn weight(&self, rows: &[usize]) -> f64 {
        rows.len() as f64
    }

    fn loss(&self, rows: &[usize], pass: &Pass) -> Result<PartialLoss> {
        let pairs: Vec<&PairTokens> = rows.iter().map(|row| &self.pairs[*row]).collect();
        let scored = score_pairs(&self.decoder, &pairs, self.loss.reads_prompt(), pass)?;
        let PairsOutcome { loss, slopes, mut metrics } = self.loss.of(rows, &halves(&scored)?);
        self.add_logits(&scored, &mut metrics)?;
        let count = rows.len() as f64;
        let mut by_token = vec![0.0_f32; scored.tokens.count];
        for (slopes, (chosen, rejected)) in slopes.iter().zip(by_pair(&scored)) {
            by_token[chosen.prompt.clone()].fill((slopes.chosen_prompt * count) as f32);
            by_token[chosen.completion.clone()].fill((slopes.chosen * count) as f32);
            by_token[rejected.completion.clone()].fill((slopes.rejected * count) as f32);
        }
        Ok(PartialLoss { sum: with_slopes(&scored.tokens.logprobs, loss * count, by_token)?, metrics })
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        self.decoder.trainable()
    }

    fn save(&self, folder: &Path) -> Result<()> {
        save(&self.decoder, &self.base, folder)
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut print = Fingerprint::new(&self.loss.settings());
        print.model(&self.decoder);
        for sequence in self.pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]) {
            print.ids(&sequence.ids, sequence.completion);
        }
        print
    }
}

/// Adds what TRL logs of the two halves' rewards and log-probabilities.
pub(super) fn add_rewards(metrics: &mut Metrics, rewards: &[(f64, f64)], logprobs: &[(f64, f64)]) {
    let count = rewards.len() as f64;
    let mut add = |name: &str, sum: f64| metrics.add(name, sum, count);
    add("rewards/chosen", rewards.iter().map(|(w, _)| w).sum());
    add("rewards/rejected", rewards.iter().map(|(_, l)| l).sum());
    add("rewards/accuracies", rewards.iter().filter(|(w, l)| w > l).count() as f64);
    add("rewards/margins", rewards.iter().map(|(w, l)| w - l).sum());
    add("logps/chosen", logprobs.iter().map(|(w, _)| w).sum());
    add("logps/rejected", logprobs.iter().map(|(_, l)| l).sum());
}

/// `log(1 / (1 + exp(-x)))` without overflow.
pub(super) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp(-x))`.
pub(super) fn sigmoid(x: f64) -> f64 {
    log_sigmoid(x).exp()
}
