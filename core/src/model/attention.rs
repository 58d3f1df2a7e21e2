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
}

impl Packed {
    /// Sequences of these lengths.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        Self { starts }
    }

    /// All tokens.
    pub fn tokens(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The position of every token in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        self.starts.windows(2).flat_map(|w| 0..(w[1] - w[0]) as u32).collect()
    }
}

/// How a pass attends: over whole packed sequences (training, scoring), or over a cache (generation).
pub enum Attention<'a> {
    /// Whole sequences.
    Packed(&'a Packed),
    /// New tokens after cached ones.
    Cached(&'a mut dyn Cache),
}
