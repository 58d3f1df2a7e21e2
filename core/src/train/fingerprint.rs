//! What makes two trainings the same one, as a hash.

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::dataset::hex;
use crate::model::Decoder;

/// Numbers of each weight that are looked at; enough to tell models apart, cheap for large ones.
const NUMBERS: usize = 256;

/// A hash under construction.
#[derive(Debug, Clone)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Starts with settings.
    pub fn new(settings: &Value) -> Self {
        let mut hash = Sha256::new();
        hash.update(settings.to_string());
        Self(hash)
    }

    /// Names, shapes and some numbers of a model's weights and of its adapter.
    pub fn model(&mut self, decoder: &Decoder) {
        for (name, tensor) in decoder.weights().iter() {
            self.tensor(name, tensor);
        }
        for (name, var) in decoder.trainable() {
            self.tensor(&name, var.as_tensor());
        }
        if let Some(adapter) = decoder.adapter() {
            self.0.update(serde_json::to_string(&adapter.config).unwrap_or_default());
        }
    }

    /// Name, shape and some numbers of a tensor.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) {
        self.0.update(name);
        self.0.update(format!("{:?}", tensor.dims()));
        let first = || -> candle_core::Result<Vec<f32>> {
            let flat = tensor.flatten_all()?;
            let flat = flat.narrow(0, 0, flat.elem_count().min(NUMBERS))?;
            flat.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.to_vec1()
        };
        for number in first().unwrap_or_default() {
            self.0.update(number.to_le_bytes());
        }
    }

    /// A row's tokens, and where it is split or read.
    pub fn ids(&mut self, ids: &[u32], split: usize) {
        self.0.update((ids.len() as u64).to_le_bytes());
        self.0.update((split as u64).to_le_bytes());
        for id in ids {
            self.0.update(id.to_le_bytes());
        }
    }

    /// More numbers that matter.
    pub fn numbers(&mut self, numbers: &[f32]) {
        for number in numbers {
            self.0.update(number.to_le_bytes());
        }
    }

    /// In lower-case hex.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}
