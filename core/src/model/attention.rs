//! What attention needs to know, and the seam between a decoder and whoever keeps its keys and values.

use candle_core::Tensor;

use crate::Result;

/// The shape and the switches of one attention block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Numbers per head.
    pub head_dim: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// A token sees this many positions, its own included; `None`: all.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
}

/// Keys and values of earlier tokens, kept outside the decoder (by the generation engine).
pub trait Cache {
    /// Stores the keys and values of N new tokens and attends from each of them to its own past and to itself.
    ///
    /// `q`: `[N, heads * head_dim]`, rotated, not scaled; `k`, `v`: `[N, kv_heads * head_dim]`, keys rotated.
    /// Returns `[N, heads * head_dim]`.
    ///
    /// # Errors
    /// When the shapes do not fit what the cache was made for, or the device fails.
    fn attend(
        &mut self,
        layer: usize,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        spec: &AttentionSpec,
    ) -> Result<Tensor>;
}

/// Where sequences lie that are packed one behind the other: sequence i is tokens `starts[i]..starts[i + 1]`; the last
/// entry is the number of tokens. No padding anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// First token of each sequence, and the total.
    pub starts: Vec<usize>,
    /// Sequences that are two with one beginning; empty: none is.
    pub forks: Vec<Option<Fork>>,
}

/// Two sequences that share their first `at` tokens, laid out as: the shared tokens, `gap` tokens that go on one way,
/// the rest that goes on another way. A token of the rest sees the shared ones and its own kind, at the positions that
/// it would have without the gap: log-probabilities have the same bits as apart, for fewer tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// Shared tokens; at least 1.
    pub at: usize,
    /// Tokens of the first branch.
    pub gap: usize,
}

/// What token `index` of a sequence sees: one run of tokens, and a second one behind a gap (empty without).
pub(super) fn visible(
    index: usize,
    window: Option<usize>,
    fork: Option<Fork>,
) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let gap = fork.filter(|fork| index >= fork.at + fork.gap).map_or(0, |fork| fork.gap);
    let position = index - gap;
    let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
    match fork.filter(|_| gap > 0) {
        Some(fork) => (first.min(fork.at)..fork.at, first.max(fork.at) + gap..index + 1),
        None => (first..index + 1, index + 1..index + 1),
    }
}

impl Packed {
    /// Sequences of these lengths.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        Self { starts, forks: Vec::new() }
    }

    /// Of one sequence.
    pub(super) fn fork(&self, sequence: usize) -> Option<Fork> {
        self.forks.get(sequence).copied().flatten()
    }

    /// All tokens.
    pub fn tokens(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The position of every token in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        let of = |(sequence, window): (usize, &[usize])| {
            let fork = self.fork(sequence);
            (0..window[1] - window[0])
                .map(move |index| {
                    let behind = fork.is_some_and(|fork| index >= fork.at + fork.gap);
                    (index - if behind { fork.map_or(0, |fork| fork.gap) } else { 0 }) as u32
                })
                .collect::<Vec<_>>()
        };
        self.starts.windows(2).enumerate().flat_map(of).collect()
    }
}

/// How a pass attends: over whole packed sequences (training, scoring), or over a cache (generation).
pub enum Attention<'a> {
    /// Whole sequences.
    Packed(&'a Packed),
    /// New tokens after cached ones.
    Cached(&'a mut dyn Cache),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_branch_sees_the_shared_tokens_and_itself() {
        // Shared 0 1 2, first branch 3 4, second branch 5 6.
        let fork = Some(Fork { at: 3, gap: 2 });
        assert_eq!(visible(4, None, fork), (0..5, 5..5));
        assert_eq!(visible(6, None, fork), (0..3, 5..7));
        // Positions of the second branch are 3 and 4: a window of 3 shows 2, 3, 4 to the last token.
        assert_eq!(visible(6, Some(3), fork), (2..3, 5..7));
        assert_eq!(visible(6, Some(1), fork), (3..3, 6..7));
        let packed = Packed { starts: vec![0, 2, 9], forks: vec![None, fork] };
        assert_eq!(packed.positions(), [0, 1, 0, 1, 2, 3, 4, 3, 4]);
    }
}
