//! RMSNorm and LayerNorm over the last dimension.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, DType, Layout, Shape, Tensor};

use super::{CandleResult, numbers, on_kernels, tensor_like, with_numbers};
use crate::model::kernels::norm;

struct RmsNorm {
    eps: f32,
    trainable: bool,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let (x, w) = (numbers(x, lx)?, numbers(w, lw)?);
        let mut out = vec![0.0; x.len()];
        norm::rms(x, w, self.eps, &mut out);
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = with_numbers(x, |x| {
            with_numbers(w, |w| {
                with_numbers(g, |g| Ok(norm::rms_backward(x, w, g, self.eps, self.trainable)))
            })
        })?;
        Ok((Some(tensor_like(dx, x)?), dw.map(|dw| tensor_like(dw, w)).transpose()?))
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension of `[.., d]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32, trainable: bool) -> CandleResult<Tensor> {
    if on_kernels(x) {
        return x.contiguous()?.apply_op2(&weight.contiguous()?, RmsNorm { eps, trainable });
    }
    // In f32 whatever the type, as the reference implementations do.
    let wide = x.to_dtype(DType::F32)?;
    let scale = (wide.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    let weight = if trainable { weight.clone() } else { weight.detach() };
    wide.broadcast_div(&scale)?.broadcast_mul(&weight.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}

struct LayerNorm {
    eps: f32,
    trainable: bool,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let (x, w, b) = (numbers(x, lx)?, numbers(w, lw)?, numbers(b, lb)?);
        let mut out = vec![0.0; x.len()];
        norm::layer(x, w, b, self.eps, &mut out);
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, rest) = with_numbers(x, |x| {
            with_numbers(w, |w| {
                with_numbers(g, |g| Ok(norm::layer_backward(x, w, g, self.eps, self.trainable)))
            })
        })?;
        let dx = Some(tensor_like(dx, x)?);
        Ok(match rest {
            Some((dw, db)) => (dx, Some(tensor_like(dw, w)?), Some(tensor_like(db, b)?)),
            None => (dx, None, None),
        })
    }
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last dimension.
///
/// # Errors
/// When the shapes do not fit.
pub fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f32,
    trainable: bool,
) -> CandleResult<Tensor> {
    if on_kernels(x) {
        let op = LayerNorm { eps, trainable };
        return x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op);
    }
    let wide = x.to_dtype(DType::F32)?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    centred
        .broadcast_div(&scale)?
        .broadcast_mul(&weight.to_dtype(DType::F32)?)?
        .broadcast_add(&bias.to_dtype(DType::F32)?)?
        .to_dtype(x.dtype())
}
