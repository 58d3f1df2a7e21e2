//! Rows as token ids, split where the completion begins: as TRL does it, which is not the same for every loss.

use super::{BadRows, PairLoss, PreferenceRow, SftRow};
use crate::model::Tokenizer;
use crate::{Error, Result};

/// One sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The ids.
    pub ids: Vec<u32>,
    /// The first token of the completion; at least 1, since the first token of all has nothing before it.
    pub completion: usize,
}

/// Both halves of a preference pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairTokens {
    /// The better one.
    pub chosen: Sequence,
    /// The worse one.
    pub rejected: Sequence,
    /// File and line.
    pub place: String,
}

impl Sequence {
    /// Cuts to `max_length` tokens.
    fn cut(mut ids: Vec<u32>, completion: usize, max_length: usize, place: &str) -> Result<Self> {
        ids.truncate(max_length);
        let completion = completion.max(1);
        match completion < ids.len() {
            true => Ok(Self { ids, completion }),
            false => Err(Error::unusable(format!(
                "{place}: no token to learn from within {max_length} tokens ({completion} come before)"
            ))),
        }
    }

    /// How many tokens its completion has.
    pub fn completion_tokens(&self) -> usize {
        self.ids.len() - self.completion
    }
}

/// SFT: prompt and completion with the end-of-sequence text as one text with special tokens, split where its ids leave
/// those of the prompt alone. Longer rows are cut on the right.
///
/// # Errors
/// When the tokenizer fails or no token is left to learn from.
pub fn sft(tokenizer: &Tokenizer, row: &SftRow, max_length: usize) -> Result<Sequence> {
    let special = !row.chat;
    let prompt = tokenizer.encode(&row.prompt, special)?;
    let ids = tokenizer.encode(&ended(tokenizer, &row.prompt, &row.completion, row.chat), special)?;
    let shared = shared(&prompt, &ids);
    Sequence::cut(ids, shared, max_length, &row.place)
}

/// DPO and RPO: as [`sft`], both halves split where the first of them leaves the prompt.
///
/// # Errors
/// When the tokenizer fails, a completion is empty or no token of one is left.
pub fn dpo(tokenizer: &Tokenizer, row: &PreferenceRow, max_length: usize) -> Result<PairTokens> {
    not_empty(row)?;
    let special = !row.chat;
    let prompt = tokenizer.encode(&row.prompt, special)?;
    let ids =
        |completion: &str| tokenizer.encode(&ended(tokenizer, &row.prompt, completion, row.chat), special);
    let (chosen, rejected) = (ids(&row.chosen)?, ids(&row.rejected)?);
    let split = shared(&prompt, &chosen).min(shared(&prompt, &rejected));
    Ok(PairTokens {
        chosen: Sequence::cut(chosen, split, max_length, &row.place)?,
        rejected: Sequence::cut(rejected, split, max_length, &row.place)?,
        place: row.place.clone(),
    })
}

/// ORPO: prompt and prompt with completion without special tokens, split by the prompt's length (one less where tokens
/// merge across the boundary, each half for itself); BOS in front and EOS behind where they are not there yet. A
/// completion is cut to what the prompt leaves of `max_length`, its EOS included.
///
/// # Errors
/// When the tokenizer fails, a completion is empty or no token of one is left.
pub fn orpo(tokenizer: &Tokenizer, row: &PreferenceRow, max_length: usize) -> Result<PairTokens> {
    not_empty(row)?;
    let prompt = tokenizer.encode(&row.prompt, false)?;
    let half = |completion: &str| -> Result<Sequence> {
        let mut ids = tokenizer.encode(&format!("{}{completion}", row.prompt), false)?;
        let mut split = prompt.len();
        if ids.get(..split) != Some(&prompt[..]) {
            split = split.saturating_sub(1).min(ids.len());
        }
        if let Some(bos) = tokenizer.bos().filter(|bos| split == 0 || ids[0] != *bos) {
            ids.insert(0, bos);
            split += 1;
        }
        if let Some(eos) = tokenizer.eos().filter(|eos| ids.len() == split || ids.last() != Some(eos)) {
            ids.push(eos);
        }
        Sequence::cut(ids, split, max_length, &row.place)
    };
    Ok(PairTokens { chosen: half(&row.chosen)?, rejected: half(&row.rejected)?, place: row.place.clone() })
}

/// All pairs as `loss` tokenises them, those without a token to learn from left to `bad`.
///
/// # Errors
/// As the loss's tokenisation, where `bad` stops at the first such pair; when no pair is left.
pub fn pairs<L: PairLoss>(
    loss: &L,
    tokenizer: &Tokenizer,
    rows: &[PreferenceRow],
    max_length: usize,
    bad: &mut BadRows,
) -> Result<Vec<PairTokens>> {
    let mut pairs = Vec::with_capacity(rows.len());
    for row in rows {
        pairs.extend(bad.sift(loss.tokens(tokenizer, row, max_length))?);
    }
    match pairs.is_empty() {
        true => Err(Error::unusable(format!("none of {} pairs can be learned from", rows.len()))),
        false => Ok(pairs),
    }
}

/// An empty completion has no mean log-probability.
fn not_empty(row: &PreferenceRow) -> Result<()> {
    for (name, text) in [("chosen", &row.chosen), ("rejected", &row.rejected)] {
        if text.is_empty() {
            return Err(Error::unusable(format!("{}: {name} is empty", row.place)));
        }
    }
    Ok(())
}

/// Prompt, completion and the end-of-sequence text, where that is not there yet; a chat template wrote its own.
fn ended(tokenizer: &Tokenizer, prompt: &str, completion: &str, chat: bool) -> String {
    let end = tokenizer.eos().and_then(|eos| tokenizer.inner().id_to_token(eos)).unwrap_or_default();
    match chat || completion.ends_with(&end) {
        true => format!("{prompt}{completion}"),
        false => format!("{prompt}{completion}{end}"),
    }
}

fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
