//! Step classification (Eq. 3-4): binary cross-entropy of each labelled step, hard or soft labels.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, bail};

use crate::Result;

/// `[n]` log-odds of "right" and labels in 0..=1 to `[n]` losses; on the CPU, differentiable.
///
/// With two labels this is their cross-entropy: the log-odds are the difference of the two logits.
pub(super) fn binary_cross_entropy(log_odds: &Tensor, labels: &[f32]) -> Result<Tensor> {
    Ok(log_odds.contiguous()?.apply_op1(BinaryCrossEntropy { labels: labels.to_vec() })?)
}

/// `1 / (1 + exp(-x))`.
pub(super) fn sigmoid(x: f32) -> f32 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

struct BinaryCrossEntropy {
    labels: Vec<f32>,
}

impl CustomOp1 for BinaryCrossEntropy {
    fn name(&self) -> &'static str {
        "binary-cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(all), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
            bail!("step losses need contiguous f32 log-odds")
        };
        let losses = all[from..to]
            .iter()
            .zip(&self.labels)
            .map(|(z, label)| z.max(0.0) + (-z.abs()).exp().ln_1p() - label * z)
            .collect();
        Ok((CpuStorage::F32(losses), layout.shape().clone()))
    }

    fn bwd(&self, log_odds: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (odds, grad) = (log_odds.to_vec1::<f32>()?, grad.to_vec1::<f32>()?);
        let slopes: Vec<f32> = odds
            .iter()
            .zip(&self.labels)
            .zip(grad)
            .map(|((z, label), g)| g * (sigmoid(*z) - label))
            .collect();
        Tensor::from_vec(slopes, odds.len(), log_odds.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn closed_forms() {
        let odds = Var::new(&[0.0_f32, 0.0, 2.0, -40.0], &Device::Cpu).expect("a variable");
        let losses = binary_cross_entropy(&odds, &[1.0, 0.25, 0.0, 1.0]).expect("losses");
        let values: Vec<f32> = losses.to_vec1().expect("values");
        let ln2 = std::f32::consts::LN_2;
        for (value, wanted) in values.iter().zip([ln2, ln2, 2.0 + (-2.0_f32).exp().ln_1p(), 40.0]) {
            assert!((value - wanted).abs() < 1e-5, "{values:?}");
        }
        let grads = losses.sum_all().and_then(|sum| sum.backward()).expect("gradients");
        let grads: Vec<f32> = grads.get(&odds).expect("reached").to_vec1().expect("values");
        for (grad, wanted) in grads.iter().zip([-0.5, 0.25, sigmoid(2.0), -1.0]) {
            assert!((grad - wanted).abs() < 1e-6, "{grads:?}");
        }
    }
}
