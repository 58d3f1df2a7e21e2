//! Log-probabilities of tokens, in f32 whatever the model's type.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::Result;
use crate::model::Decoder;
use crate::model::ops::with_numbers;

/// Rows whose logits are held at once.
const CHUNK: usize = 4096;

/// The log-probability of each target under the logits of its row: `hidden [M, H]`, M targets -> `[M]`, differentiable.
///
/// # Errors
/// When the shapes do not fit or the device fails.
pub fn token_logprobs(decoder: &Decoder, hidden: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let mut parts = Vec::new();
    for (number, chunk) in targets.chunks(CHUNK).enumerate() {
        let rows = hidden.narrow(0, number * CHUNK, chunk.len())?;
        parts.push(gather(&decoder.logits(&rows)?, chunk)?);
    }
    Ok(match parts.len() {
        1 => parts.remove(0),
        _ => Tensor::cat(&parts, 0)?,
    })
}

/// `log softmax(logits)[row, target[row]]`.
fn gather(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    if logits.device().is_cpu() && logits.dtype() == DType::F32 {
        return Ok(logits.contiguous()?.apply_op1(Gather { targets: targets.to_vec() })?);
    }
    let logits = logits.to_dtype(DType::F32)?;
    let index = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    let most = logits.max_keepdim(D::Minus1)?.detach();
    let total = logits.broadcast_sub(&most)?.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok((logits.gather(&index, 1)? - (total + most)?)?.squeeze(1)?)
}

struct Gather {
    targets: Vec<u32>,
}

/// Largest number and `log(sum(exp(x)))` of a row.
fn log_sum_exp(row: &[f32]) -> f32 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = row.iter().map(|x| (x - most).exp()).sum();
    most + total.ln()
}

impl CustomOp1 for Gather {
    fn name(&self) -> &'static str {
        "token-logprob"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(all), Some((from, to))) = (logits, layout.contiguous_offsets()) else {
            bail!("token log-probabilities need contiguous f32 logits")
        };
        let (rows, width) = layout.shape().dims2()?;
        if self.targets.len() != rows || self.targets.iter().any(|target| *target as usize >= width) {
            bail!("{} targets for logits of shape {:?}", self.targets.len(), layout.shape())
        }
        let values: Vec<f32> = all[from..to]
            .par_chunks(width)
            .zip(&self.targets)
            .map(|(row, target)| row[*target as usize] - log_sum_exp(row))
            .collect();
        Ok((CpuStorage::F32(values), Shape::from(rows)))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (rows, width) = logits.dims2()?;
        let mut out = vec![0.0_f32; rows * width];
        with_numbers(logits, |logits| {
            with_numbers(grad, |grad| {
                out.par_chunks_mut(width)
                    .zip(logits.par_chunks(width))
                    .zip(grad.par_iter().zip(&self.targets))
                    .for_each(|((out, row), (grad, target))| {
                        let total = log_sum_exp(row);
                        for (out, x) in out.iter_mut().zip(row) {
                            *out = -grad * (x - total).exp();
                        }
                        out[*target as usize] += grad;
                    });
                Ok(())
            })
        })?;
        Tensor::from_vec(out, (rows, width), logits.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn values_and_gradients_equal_the_composition() {
        let numbers: Vec<f32> = (0..24).map(|n| ((n * 7) % 11) as f32 / 3.0 - 1.0).collect();
        let var = Var::from_vec(numbers, (4, 6), &Device::Cpu).expect("a variable");
        let targets = [5, 0, 3, 3];
        let fused = gather(&var, &targets).expect("log-probabilities");
        let index = Tensor::new(&targets, &Device::Cpu).and_then(|t| t.reshape((4, 1))).expect("an index");
        let plain =
            candle_nn::ops::log_softmax(&var, 1).and_then(|x| x.gather(&index, 1)).expect("a composition");
        let scale = Tensor::new(&[1.0_f32, -2.0, 0.5, 3.0], &Device::Cpu).expect("weights");
        let loss = |x: &Tensor| (x.flatten_all()? * &scale)?.sum_all();
        let (a, b) = (loss(&fused).expect("a loss"), loss(&plain).expect("a loss"));
        let (ga, gb) = (a.backward().expect("gradients"), b.backward().expect("gradients"));
        let difference = (ga.get(&var).expect("reached") - gb.get(&var).expect("reached"))
            .and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>())
            .expect("a number");
        assert!(difference < 1e-6, "{difference}");
        let values: Vec<f32> = fused.to_vec1().expect("values");
        for (value, plain) in
            values.iter().zip(plain.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("values"))
        {
            assert!((value - plain).abs() < 1e-6);
        }
    }
}
