//! Our decoder as a [`Network`].

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::network::{Network, Shape};
use super::{Engine, EngineOptions};
use crate::Result;
use crate::model::{Attention, Cache, Decoder, Pass, Tokenizer};

impl Network for Decoder {
    fn shape(&self) -> Shape {
        let config = self.config();
        Shape {
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            hidden: config.hidden,
            vocab: config.vocab,
            context: config.context,
        }
    }

    fn device(&self) -> &Device {
        self.device()
    }

    fn dtype(&self) -> DType {
        self.dtype()
    }

    fn hidden(&self, ids: &[u32], positions: &[u32], cache: &mut dyn Cache) -> Result<Tensor> {
        self.hidden(ids, positions, Attention::Cached(cache), &Pass::default())
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.logits(hidden)
    }
}

impl Engine {
    /// An engine over a decoder, which is frozen for inference first: adapters merged, weights packed.
    ///
    /// # Errors
    /// As [`Engine::over`], and when the weights cannot be packed.
    pub fn new(decoder: &Decoder, tokenizer: Tokenizer, options: EngineOptions) -> Result<Self> {
        Self::over(Arc::new(decoder.frozen_for_inference()?), tokenizer, options)
    }
}
