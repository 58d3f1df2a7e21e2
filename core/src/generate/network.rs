//! What the engine needs of a model: hidden states of packed tokens over a cache, and logits of some of them.

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::model::Cache;

/// The numbers that size a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Blocks of the network.
    pub layers: usize,
    /// Key and value heads of each.
    pub kv_heads: usize,
    /// Numbers per head.
    pub head_dim: usize,
    /// Width of hidden states.
    pub hidden: usize,
    /// Number of logits.
    pub vocab: usize,
    /// The most positions the model was made for.
    pub context: usize,
}

/// A causal language model in inference form.
///
/// The contract behind equal bytes: on the CPU, row i of every result has the same bits whatever the other rows are.
pub trait Network: Send + Sync {
    /// Sizes.
    fn shape(&self) -> Shape;

    /// Where its tensors live.
    fn device(&self) -> &Device;

    /// The type of keys and values on a device other than the CPU.
    fn dtype(&self) -> DType {
        DType::F32
    }

    /// Hidden states `[N, hidden]` of N tokens after the final norm, attention going through `cache`.
    ///
    /// # Errors
    /// What the device says.
    fn hidden(&self, ids: &[u32], positions: &[u32], cache: &mut dyn Cache) -> Result<Tensor>;

    /// Logits `[M, vocab]` in f32 of hidden states `[M, hidden]`.
    ///
    /// # Errors
    /// What the device says.
    fn logits(&self, hidden: &Tensor) -> Result<Tensor>;
}
