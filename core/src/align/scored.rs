//! Token log-probabilities of many sequences from one packed pass; what two of them share at the beginning is computed
//! once.

use std::ops::Range;

use candle_core::Tensor;

use super::tokens::Sequence;
use crate::Result;
use crate::model::{Attention, Decoder, Fork, Packed, Pass};
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

/// One sequence, or two that may share their beginning.
pub(super) struct Item<'a> {
    /// The first, or only one.
    pub(super) first: &'a Sequence,
    /// Whether the prompt of the first is scored too. The first token of all has nothing before it and never is.
    pub(super) with_prompt: bool,
    /// The second.
    pub(super) second: Option<&'a Sequence>,
}

/// Tokens that two sequences share; not the last one of either, which predicts nothing.
fn shared(a: &[u32], b: &[u32]) -> usize {
    let most = a.len().min(b.len()) - 1;
    a.iter().zip(b).take(most).take_while(|(a, b)| a == b).count()
}

/// Tokens of a pass over two sequences.
pub(super) fn pair_tokens(a: &Sequence, b: &Sequence) -> usize {
    a.ids.len() + b.ids.len() - shared(&a.ids, &b.ids)
}

/// Scores the completions of all items: a part a sequence, in their order.
pub(super) fn score(decoder: &Decoder, items: &[Item<'_>], pass: &Pass) -> Result<Scored> {
    let (mut ids, mut forks) = (Vec::new(), Vec::new());
    let mut starts = vec![0];
    let (mut places, mut targets, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    // `place(t)` is where token t of a sequence lies.
    let mut wanted = |sequence: &Sequence, with_prompt: bool, place: &dyn Fn(usize) -> usize| {
        let from = if with_prompt { 1 } else { sequence.completion };
        let first = targets.len();
        places.extend((from..sequence.ids.len()).map(|token| place(token - 1) as u32));
        targets.extend_from_slice(&sequence.ids[from..]);
        let split = first + sequence.completion - from;
        parts.push(Part { prompt: first..split, completion: split..targets.len() });
    };
    for Item { first, with_prompt, second } in items {
        let start = ids.len();
        ids.extend_from_slice(&first.ids);
        wanted(first, *with_prompt, &|token| start + token);
        let mut fork = None;
        if let Some(second) = second {
            let behind = ids.len();
            let at = shared(&first.ids, &second.ids);
            ids.extend_from_slice(&second.ids[at..]);
            match at {
                0 => {
                    forks.push(None);
                    starts.push(behind);
                }
                _ => fork = Some(Fork { at, gap: first.ids.len() - at }),
            }
            wanted(second, false, &|token| if token < at { start + token } else { behind + token - at });
        }
        forks.push(fork);
        starts.push(ids.len());
    }
    let packed = Packed { starts, forks };
    let hidden = decoder.hidden(&ids, &packed.positions(), Attention::Packed(&packed), pass)?;
    let count = places.len();
    let hidden = hidden.index_select(&Tensor::from_vec(places, count, hidden.device())?, 0)?;
    let tokens = token_scores(decoder, &hidden, &targets)?;
    Ok(Scored { tokens, parts, hidden: hidden.detach() })
}
