//! Causal attention over packed sequences.

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Shape, Tensor};

use super::{CandleResult, numbers, on_kernels, tensor_like, with_numbers};
use crate::model::attention::visible;
use crate::model::kernels::attention;
use crate::model::{AttentionSpec, Fork, Packed};

struct Attend {
    packed: Packed,
    spec: AttentionSpec,
}

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let (q, k, v) = (numbers(q, lq)?, numbers(k, lk)?, numbers(v, lv)?);
        Ok((CpuStorage::F32(attention::forward(q, k, v, &self.packed, &self.spec)), lq.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dq, dk, dv) = with_numbers(q, |q| {
            with_numbers(k, |k| {
                with_numbers(v, |v| {
                    with_numbers(g, |g| Ok(attention::backward(q, k, v, g, &self.packed, &self.spec)))
                })
            })
        })?;
        Ok((Some(tensor_like(dq, q)?), Some(tensor_like(dk, k)?), Some(tensor_like(dv, v)?)))
    }
}

/// `[N, heads * head_dim]` of rotated queries and keys and of values; a token sees the earlier ones of its sequence.
///
/// # Errors
/// When the shapes do not fit.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    packed: &Packed,
    spec: &AttentionSpec,
) -> CandleResult<Tensor> {
    if on_kernels(q) {
        let op = Attend { packed: packed.clone(), spec: *spec };
        return q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op);
    }
    let parts: Vec<Tensor> = packed
        .starts
        .windows(2)
        .enumerate()
        .map(|(n, w)| one_sequence(&part(q, w)?, &part(k, w)?, &part(v, w)?, packed.fork(n), spec))
        .collect::<CandleResult<_>>()?;
    Tensor::cat(&parts, 0)
}

fn part(x: &Tensor, window: &[usize]) -> CandleResult<Tensor> {
    x.narrow(0, window[0], window[1] - window[0])
}

/// One sequence, composed of candle's operations: `[T, heads * head_dim]`.
fn one_sequence(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    fork: Option<Fork>,
    spec: &AttentionSpec,
) -> CandleResult<Tensor> {
    let length = q.dim(0)?;
    let (d, group) = (spec.head_dim, spec.heads / spec.kv_heads);
    // [kv, group * T, d] against [kv, T, d]: no key or value is repeated.
    let queries = q
        .reshape((length, spec.kv_heads, group, d))?
        .permute((1, 2, 0, 3))?
        .contiguous()?
        .reshape((spec.kv_heads, group * length, d))?;
    let side = |x: &Tensor| x.reshape((length, spec.kv_heads, d))?.transpose(0, 1)?.contiguous();
    let mut scores =
        (queries.matmul(&side(k)?.transpose(1, 2)?)? * f64::from(spec.scale))?.to_dtype(DType::F32)?;
    if let Some(cap) = spec.softcap {
        scores = ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?;
    }
    let mask: Vec<f32> = (0..length)
        .flat_map(|i| {
            let (one, two) = visible(i, spec.window, fork);
            (0..length)
                .map(move |j| if one.contains(&j) || two.contains(&j) { 0.0 } else { f32::NEG_INFINITY })
        })
        .collect();
    let mask = Tensor::from_vec(mask, (1, 1, length, length), q.device())?;
    let scores = scores.reshape((spec.kv_heads, group, length, length))?.broadcast_add(&mask)?;
    let most = scores.max_keepdim(D::Minus1)?.detach();
    let weights = scores.broadcast_sub(&most)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?.to_dtype(v.dtype())?;
    weights
        .reshape((spec.kv_heads, group * length, length))?
        .matmul(&side(v)?)?
        .reshape((spec.kv_heads, group, length, d))?
        .permute((2, 0, 1, 3))?
        .contiguous()?
        .reshape((length, spec.heads * d))
}
