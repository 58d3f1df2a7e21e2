//! Rotary position embedding.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Shape, Tensor};

use super::{CandleResult, numbers, on_kernels, tensor_like, with_numbers};
use crate::model::kernels::rotary::{Angles, rotate};

struct Rotary {
    head_dim: usize,
    angles: Arc<Angles>,
}

impl CustomOp1 for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let width = lx.shape().dims2()?.1;
        let out = rotate(numbers(x, lx)?, width, self.head_dim, &self.angles, 1.0);
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> CandleResult<Option<Tensor>> {
        let width = x.dims2()?.1;
        let dx = with_numbers(g, |g| Ok(rotate(g, width, self.head_dim, &self.angles, -1.0)))?;
        tensor_like(dx, x).map(Some)
    }
}

/// Rotates the first `2 * angles.half` dimensions of every head of `x [N, heads * head_dim]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn rotary(x: &Tensor, head_dim: usize, angles: &Arc<Angles>) -> CandleResult<Tensor> {
    let half = angles.half;
    if half == 0 {
        return Ok(x.clone());
    }
    if on_kernels(x) {
        return x.contiguous()?.apply_op1(Rotary { head_dim, angles: angles.clone() });
    }
    let (tokens, width) = x.dims2()?;
    let heads = x.reshape((tokens, width / head_dim, head_dim))?;
    let table =
        |values: &[f32]| Tensor::from_slice(values, (tokens, 1, half), x.device())?.to_dtype(x.dtype());
    let (cos, sin) = (table(&angles.cos)?, table(&angles.sin)?);
    let (a, b) = (heads.narrow(D::Minus1, 0, half)?, heads.narrow(D::Minus1, half, half)?);
    let mut parts = vec![
        (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?,
        (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?,
    ];
    if 2 * half < head_dim {
        parts.push(heads.narrow(D::Minus1, 2 * half, head_dim - 2 * half)?);
    }
    Tensor::cat(&parts, D::Minus1)?.reshape((tokens, width))
}
