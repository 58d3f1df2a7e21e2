//! Linear layers, with bias and low-rank adapter where they have them, and norms.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::Pass;
use super::config::NormKind;
use super::kernels::matmul::Packed as Panels;
use super::lora::LoraPart;
use super::ops;
use super::weights::Weights;
use crate::error::Result;
use crate::stream::StreamName;

/// `x @ weight^T + bias`, plus a low-rank adapter.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    name: String,
    weight: Tensor,
    bias: Option<Tensor>,
    trainable: bool,
    bias_trainable: bool,
    panels: Option<Arc<Panels>>,
    lora: Option<LoraPart>,
}

impl Linear {
    /// The layer of this name; `inference` packs the weight once for the kernels.
    pub(super) fn new(
        weights: &Weights,
        name: &str,
        lora: Option<LoraPart>,
        inference: bool,
    ) -> Result<Self> {
        let weight_name = format!("{name}.weight");
        let weight = weights.get(&weight_name)?;
        let on_kernels = weight.device().is_cpu() && weight.dtype() == DType::F32;
        let panels = match inference && on_kernels {
            true => {
                let (outputs, inputs) = weight.dims2()?;
                Some(Arc::new(ops::with_numbers(&weight, |w| Ok(Panels::of_weight(w, outputs, inputs)))?))
            }
            false => None,
        };
        Ok(Self {
            name: name.to_owned(),
            bias: weights.find(&format!("{name}.bias")),
            trainable: weights.is_trainable(&weight_name),
            bias_trainable: weights.is_trainable(&format!("{name}.bias")),
            weight,
            panels,
            lora,
        })
    }

    /// `[N, in]` -> `[N, out]`.
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let Some(lora) = &self.lora else { return self.plain(x) };
        let down = ops::linear(&self.dropped(lora, x, pass)?, &lora.a, true)?;
        let frozen = !self.trainable && !self.bias_trainable;
        if frozen && self.panels.is_none() && ops::on_kernels(x) {
            let bias = self.bias.as_ref();
            return Ok(ops::adapted_linear(x, &self.weight, bias, &down, &lora.b, lora.scaling)?);
        }
        Ok((self.plain(x)? + (ops::linear(&down, &lora.b, true)? * lora.scaling)?)?)
    }

    fn plain(&self, x: &Tensor) -> Result<Tensor> {
        let out = match &self.panels {
            Some(panels) => ops::linear_packed(x, panels)?,
            None => ops::linear(x, &self.weight, self.trainable)?,
        };
        Ok(match &self.bias {
            Some(bias) => ops::add_bias(&out, bias, self.bias_trainable)?,
            None => out,
        })
    }

    /// What the adapter reads.
    fn dropped(&self, lora: &LoraPart, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let Some(key) = pass.dropout.filter(|_| lora.dropout > 0.0) else { return Ok(x.clone()) };
        let name = StreamName { seed: key, stage: "dropout", problem: &self.name, ..StreamName::default() };
        Ok(ops::dropout(x, lora.dropout, name.key())?)
    }
}

/// A normalisation over the last dimension.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    kind: NormKind,
    eps: f64,
    trainable: bool,
}

impl Norm {
    pub(super) fn new(weights: &Weights, name: &str, kind: NormKind, eps: f64) -> Result<Self> {
        let weight_name = format!("{name}.weight");
        Ok(Self {
            weight: weights.get(&weight_name)?,
            bias: weights.find(&format!("{name}.bias")),
            kind,
            eps,
            trainable: weights.is_trainable(&weight_name),
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let eps = self.eps as f32;
        Ok(match (self.kind, &self.bias) {
            (NormKind::Layer, Some(bias)) => ops::layer_norm(x, &self.weight, bias, eps, self.trainable)?,
            (NormKind::RmsUnitOffset, _) => ops::rms_norm(x, &(&self.weight + 1.0)?, eps, self.trainable)?,
            _ => ops::rms_norm(x, &self.weight, eps, self.trainable)?,
        })
    }
}
