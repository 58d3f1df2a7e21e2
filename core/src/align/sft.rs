//! Supervised fine-tuning: the negative log-likelihood of completions, a mean over all their tokens.

use std::path::Path;

use candle_core::Var;
use serde_json::json;

use super::scored::{Item, score};
use super::tokens::{self, Sequence};
use super::{BadRows, SftRow};
use crate::model::{Decoder, Pass, Tokenizer};
use crate::train::{Fingerprint, Metrics, Objective, PartialLoss};
use crate::{Error, Result};

/// SFT over tokenised rows.
pub struct SftObjective {
    decoder: Decoder,
    base: String,
    rows: Vec<(Sequence, String)>,
}

impl SftObjective {
    /// Tokenises the rows as TRL does ([`tokens::sft`]).
    ///
    /// # Errors
    /// When the tokenizer fails or a row has no token to learn from.
    pub fn new(decoder: Decoder, tokenizer: &Tokenizer, rows: &[SftRow], max_length: usize) -> Result<Self> {
        Self::sifted(decoder, tokenizer, rows, max_length, &mut BadRows::stop())
    }

    /// As [`Self::new`], leaving rows without a token to learn from to `bad`.
    ///
    /// # Errors
    /// As [`Self::new`], where `bad` stops at the first such row; when no row is left.
    pub fn sifted(
        decoder: Decoder,
        tokenizer: &Tokenizer,
        rows: &[SftRow],
        max_length: usize,
        bad: &mut BadRows,
    ) -> Result<Self> {
        let mut kept = Vec::with_capacity(rows.len());
        for row in rows {
            let sequence = bad.sift(tokens::sft(tokenizer, row, max_length))?;
            kept.extend(sequence.map(|sequence| (sequence, row.place.clone())));
        }
        if kept.is_empty() {
            return Err(Error::unusable(format!("none of {} rows can be learned from", rows.len())));
        }
        Ok(Self::of_tokens(decoder, kept))
    }

    /// Over rows that are tokenised already, each with what to call it in an error message.
    pub fn of_tokens(decoder: Decoder, rows: Vec<(Sequence, String)>) -> Self {
        Self { decoder, base: String::new(), rows }
    }

    /// Names the base model in a saved adapter.
    #[must_use]
    pub fn over(mut self, base: &str) -> Self {
        self.base = base.to_owned();
        self
    }
}

impl Objective for SftObjective {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].0.ids.len()
    }

    fn name(&self, row: usize) -> String {
        self.rows[row].1.clone()
    }

    fn weight(&self, rows: &[usize]) -> f64 {
        rows.iter().map(|row| self.rows[*row].0.completion_tokens() as f64).sum()
    }

    fn loss(&self, rows: &[usize], pass: &Pass) -> Result<PartialLoss> {
        let item = |row: &usize| Item { first: &self.rows[*row].0, with_prompt: false, second: None };
        let scored = score(&self.decoder, &rows.iter().map(item).collect::<Vec<_>>(), pass)?;
        let count = scored.tokens.count as f64;
        let mut metrics = Metrics::default();
        metrics.add("mean_token_accuracy", scored.tokens.right as f64, count);
        metrics.add("entropy", scored.tokens.entropy, count);
        Ok(PartialLoss { sum: scored.tokens.logprobs.sum_all()?.neg()?, metrics })
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        self.decoder.trainable()
    }

    fn save(&self, folder: &Path) -> Result<()> {
        save(&self.decoder, &self.base, folder)
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut print = Fingerprint::new(&json!({ "loss": "sft" }));
        print.model(&self.decoder);
        for (sequence, _) in &self.rows {
            print.ids(&sequence.ids, sequence.completion);
        }
        print
    }
}

/// Writes PEFT's files where an adapter was trained, the whole model otherwise.
pub(super) fn save(decoder: &Decoder, base: &str, folder: &Path) -> Result<()> {
    match decoder.adapter() {
        Some(_) => decoder.save_adapter(folder, base),
        None => decoder.save(folder),
    }
}
