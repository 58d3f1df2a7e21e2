//! What a reward model reads as token ids, and where each step's score is read.
//!
//! Two sources give the same [`Layout`]: rows in TRL's shape, tokenised as TRL does, and the pieces of a
//! [`sipf_plugin::RewardModel`].

use std::ops::Range;

use sipf_plugin::{Marker, Piece, RewardCard};

use crate::model::Tokenizer;
use crate::{Error, Result};

/// Token ids and read positions of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The ids.
    pub ids: Vec<u32>,
    /// Where each step's score is read, in order.
    pub reads: Vec<usize>,
    /// The tokens of each step: its text and what marks its end.
    pub spans: Vec<Range<usize>>,
    /// Where the prompt ends.
    pub prompt: usize,
}

impl Layout {
    /// Cuts to so many tokens; steps whose score is read beyond lose it. Returns how many did.
    pub fn truncate(&mut self, most: usize) -> usize {
        self.ids.truncate(most);
        let kept = self.reads.iter().filter(|read| **read < most).count();
        let lost = self.reads.len() - kept;
        self.reads.truncate(kept);
        self.spans.truncate(kept);
        lost
    }
}

/// TRL's layout: BOS where the tokenizer has one, the prompt, then every step and the separator, each tokenised on its
/// own without special tokens; a score is read at the separator's last token. Nothing stands between the prompt and
/// the first step.
///
/// # Errors
/// When the separator has no token.
pub fn trl(tokenizer: &Tokenizer, prompt: &str, steps: &[&str], separator: &str) -> Result<Layout> {
    let separator_ids = tokenizer.encode(separator, false)?;
    if separator_ids.is_empty() {
        return Err(Error::unusable(format!("the step separator {separator:?} has no token")));
    }
    let mut layout = Layout { ids: tokenizer.bos().into_iter().collect(), ..Layout::default() };
    layout.ids.extend(tokenizer.encode(prompt, false)?);
    layout.prompt = layout.ids.len();
    for step in steps {
        let start = layout.ids.len();
        layout.ids.extend(tokenizer.encode(step, false)?);
        layout.ids.extend_from_slice(&separator_ids);
        layout.reads.push(layout.ids.len() - 1);
        layout.spans.push(start..layout.ids.len());
    }
    Ok(layout)
}

/// The layout that a reward model's pieces ask for.
///
/// # Errors
/// When the marker is no token of the vocabulary, or there is not exactly one place to read for each step.
pub fn of_pieces(tokenizer: &Tokenizer, card: &RewardCard, pieces: &[Piece], steps: usize) -> Result<Layout> {
    let marker = marker_ids(tokenizer, &card.marker)?;
    let mut layout = Layout { ids: tokenizer.bos().into_iter().collect(), ..Layout::default() };
    let mut ends = Vec::new();
    if pieces.iter().any(|piece| matches!(piece, Piece::Turn { .. })) {
        (layout.ids, ends) = chat(tokenizer, pieces, &marker)?;
    } else {
        for piece in pieces {
            match piece {
                Piece::Text { text } => layout.ids.extend(tokenizer.encode(text, false)?),
                _ => {
                    layout.ids.extend_from_slice(&marker);
                    ends.push(layout.ids.len() - 1);
                }
            }
        }
    }
    if ends.len() != steps {
        return Err(Error::unusable(format!(
            "{} places to read for {steps} steps: reward model {} does not fit this tokenizer",
            ends.len(),
            card.name
        )));
    }
    layout.prompt = prompt_end(tokenizer, pieces, &layout)?;
    let mut start = layout.prompt;
    for end in ends {
        let read = end as i64 + i64::from(card.offset);
        if read < 0 || read as usize >= layout.ids.len() {
            return Err(Error::unusable(format!("offset {} leads out of the text", card.offset)));
        }
        layout.reads.push(read as usize);
        layout.spans.push(start..end + 1);
        start = end + 1;
    }
    Ok(layout)
}

/// Where the first piece ends, if it is text of its own; a step that shares the first piece begins there too.
fn prompt_end(tokenizer: &Tokenizer, pieces: &[Piece], layout: &Layout) -> Result<usize> {
    let bos = usize::from(tokenizer.bos().is_some());
    Ok(match pieces {
        // The first text is followed by another: it is the prompt alone.
        [Piece::Text { text }, Piece::Text { .. }, ..] => bos + tokenizer.encode(text, false)?.len(),
        _ => bos.min(layout.ids.len()),
    })
}

fn marker_ids(tokenizer: &Tokenizer, marker: &Marker) -> Result<Vec<u32>> {
    let ids = match marker {
        Marker::Pad => tokenizer.pad().or(tokenizer.eos()).into_iter().collect(),
        Marker::Token { token } => tokenizer.id(token).into_iter().collect(),
        Marker::Text { text } => tokenizer.encode(text, false)?,
        _ => Vec::new(),
    };
    match ids.is_empty() {
        false => Ok(ids),
        true => Err(Error::unusable(format!("the tokenizer has no token for the marker {marker:?}"))),
    }
}

/// Turns through the chat template; scores are read where the marker's last token stands. In the models that use
/// turns the marker occurs nowhere else but where they put it, which the count of steps checks.
fn chat(tokenizer: &Tokenizer, pieces: &[Piece], marker: &[u32]) -> Result<(Vec<u32>, Vec<usize>)> {
    let mut messages = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Turn { role, text } => {
                messages.push((role.as_str(), text.as_str()));
            }
            _ => return Err(Error::unusable("a layout has either turns or texts and markers, not both")),
        }
    }
    let text = tokenizer.chat(&messages)?;
    let ids = tokenizer.encode(&text, false)?;
    let ends = (0..ids.len()).filter(|at| ids[..=*at].ends_with(marker)).collect();
    Ok((ids, ends))
}
