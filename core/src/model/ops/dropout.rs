//! Dropout whose mask is drawn again in the backward pass instead of being kept.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use sipf_plugin::random::Stream;

use super::{CandleResult, numbers, on_kernels, tensor_like, with_numbers};

struct Dropout {
    probability: f32,
    key: u64,
}

impl Dropout {
    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut stream = Stream::new(self.key);
        let keep = 1.0 / (1.0 - self.probability);
        x.iter().map(|x| if stream.next_unit() < self.probability { 0.0 } else { x * keep }).collect()
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.apply(numbers(x, lx)?)), lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> CandleResult<Option<Tensor>> {
        tensor_like(with_numbers(g, |g| Ok(self.apply(g)))?, x).map(Some)
    }
}

/// Zeroes each number with this probability and scales the rest; `key` names the random stream.
///
/// # Errors
/// What the device says.
pub fn dropout(x: &Tensor, probability: f64, key: u64) -> CandleResult<Tensor> {
    let op = Dropout { probability: probability as f32, key };
    if on_kernels(x) {
        return x.contiguous()?.apply_op1(op);
    }
    let mask = op.apply(&vec![1.0; x.elem_count()]);
    x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
}
