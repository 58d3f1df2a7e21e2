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
