//! Token log-probabilities of many sequences from one packed pass.

use std::ops::Range;

use candle_core::Tensor;

use super::tokens::Sequence;
use crate::Result;
use crate::model::{Attention, Decoder, Packed, Pass};
use crate::train::{TokenScores, token_scores};

/// What a pass gave.
pub(super) struct Scored {
    /// Log-probabilities of all targets, one behind the other, with their graph.
    pub(super) tokens: TokenScores,
    /// Which of them belong to each sequence.
    pub(super) parts: Vec<Part>,
    /// Hidden states that predicted them, `[M, hidden]`, for means of logits.
    pub(super) hidden: Tensor,
}

/// The targets of one sequence: those of its prompt, where they were asked for, and those of its completion.
pub(super) struct Part {
    pub(super) prompt: Range<usize>,
    pub(super) completion: Range<usize>,
}

/// Scores the completion of every sequence, and its prompt too where `true` stands beside it. The first token of a
/// sequence has nothing before it and is never scored.
pub(super) fn score(decoder: &Decoder, sequences: &[(&Sequence, bool)], pass: &Pass) -> Result<Scored> {
    let packed = Packed::of_lengths(sequences.iter().map(|(sequence, _)| sequence.ids.len()));
    let ids: Vec<u32> = sequences.iter().flat_map(|(sequence, _)| sequence.ids.iter().copied()).collect();
    let hidden = decoder.hidden(&ids, &packed.positions(), Attention::Packed(&packed), pass)?;
    let (mut places, mut targets, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for ((sequence, with_prompt), start) in sequences.iter().zip(&packed.starts) {
        let from = if *with_prompt { 1 } else { sequence.completion };
        let first = targets.len();
        places.extend((from - 1..sequence.ids.len() - 1).map(|at| (start + at) as u32));
        targets.extend_from_slice(&sequence.ids[from..]);
        let split = first + sequence.completion - from;
        parts.push(Part { prompt: first..split, completion: split..targets.len() });
    }
    let count = places.len();
    let hidden = hidden.index_select(&Tensor::from_vec(places, count, hidden.device())?, 0)?;
    let tokens = token_scores(decoder, &hidden, &targets)?;
    Ok(Scored { tokens, parts, hidden: hidden.detach() })
}
