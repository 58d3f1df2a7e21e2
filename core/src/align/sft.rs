//! Supervised fine-tuning: the negative log-likelihood of completions, a mean over all their tokens.

use std::path::Path;

use candle_core::{Tensor, Var};

use super::SftRow;
use crate::model::{Attention, Decoder, Packed, Pass, Tokenizer};
use crate::train::{Metrics, Objective, PartialLoss, token_logprobs};
use crate::{Error, Result};

/// SFT over tokenised rows.
pub struct SftObjective {
    decoder: Decoder,
    rows: Vec<TokenRow>,
}

struct TokenRow {
    ids: Vec<u32>,
    /// First token that carries loss.
    from: usize,
    place: String,
}

impl SftObjective {
    /// Tokenises the rows as TRL does: prompt and completion with the end-of-sequence text as one text, split where
    /// the prompt's own tokens end. Longer rows are cut on the right.
    ///
    /// # Errors
    /// When the tokenizer fails or a row has no token to learn from.
    pub fn new(decoder: Decoder, tokenizer: &Tokenizer, rows: &[SftRow], max_length: usize) -> Result<Self> {
        let end = tokenizer.eos().and_then(|eos| tokenizer.inner().id_to_token(eos)).unwrap_or_default();
        let rows = rows
            .iter()
            .map(|row| {
                let prompt = tokenizer.encode(&row.prompt, true)?;
                let mut ids = tokenizer.encode(&format!("{}{}{end}", row.prompt, row.completion), true)?;
                let shared = prompt.iter().zip(&ids).take_while(|(a, b)| a == b).count();
                ids.truncate(max_length);
                // The first token of all has nothing before it.
                let from = shared.max(1);
                if from >= ids.len() {
                    return Err(Error::unusable(format!(
                        "{}: no token to learn from within {max_length} tokens",
                        row.place
                    )));
                }
                Ok(TokenRow { ids, from, place: row.place.clone() })
            })
            .collect::<Result<_>>()?;
        Ok(Self { decoder, rows })
    }
}

impl Objective for SftObjective {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].ids.len()
    }

    fn name(&self, row: usize) -> String {
        self.rows[row].place.clone()
    }

    fn weight(&self, rows: &[usize]) -> f64 {
        rows.iter().map(|row| (self.rows[*row].ids.len() - self.rows[*row].from) as f64).sum()
    }

    fn loss(&self, rows: &[usize], pass: &Pass) -> Result<PartialLoss> {
        let rows: Vec<&TokenRow> = rows.iter().map(|row| &self.rows[*row]).collect();
        let packed = Packed::of_lengths(rows.iter().map(|row| row.ids.len()));
        let ids: Vec<u32> = rows.iter().flat_map(|row| row.ids.iter().copied()).collect();
        let hidden = self.decoder.hidden(&ids, &packed.positions(), Attention::Packed(&packed), pass)?;
        let (mut places, mut targets) = (Vec::new(), Vec::new());
        for (row, start) in rows.iter().zip(&packed.starts) {
            places.extend((row.from - 1..row.ids.len() - 1).map(|at| (start + at) as u32));
            targets.extend_from_slice(&row.ids[row.from..]);
        }
        let count = places.len();
        let places = Tensor::from_vec(places, count, hidden.device())?;
        let logprobs = token_logprobs(&self.decoder, &hidden.index_select(&places, 0)?, &targets)?;
        Ok(PartialLoss { sum: logprobs.sum_all()?.neg()?, metrics: Metrics::default() })
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        self.decoder.trainable()
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.decoder.save(folder)
    }
}
