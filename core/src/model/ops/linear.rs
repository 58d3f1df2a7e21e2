//! `x @ weight^T`.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Shape, Tensor, bail};

use super::{CandleResult, numbers, on_kernels, tensor_like, with_numbers};
use crate::model::kernels::matmul::{Left, Packed, matmul};
use crate::model::kernels::norm::column_sums;

struct Linear {
    trainable: bool,
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let (rows, inputs) = lx.shape().dims2()?;
        let outputs = lw.shape().dims2()?.0;
        let packed = Packed::of_weight(numbers(w, lw)?, outputs, inputs);
        let mut out = vec![0.0; rows * outputs];
        matmul(Left::rows(numbers(x, lx)?, inputs), &packed, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((rows, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let (rows, inputs) = x.dims2()?;
        let outputs = w.dim(0)?;
        with_numbers(g, |g| {
            let dx = with_numbers(w, |w| {
                let mut dx = vec![0.0; rows * inputs];
                matmul(Left::rows(g, outputs), &Packed::new(w, outputs, inputs, inputs, 1), &mut dx);
                tensor_like(dx, x)
            })?;
            let dw = with_numbers(x, |x| {
                if !self.trainable {
                    return Ok(None);
                }
                let mut dw = vec![0.0; outputs * inputs];
                matmul(Left::transposed(g, outputs), &Packed::new(x, rows, inputs, inputs, 1), &mut dw);
                tensor_like(dw, w).map(Some)
            })?;
            Ok((Some(dx), dw))
        })
    }
}

struct AddBias {
    trainable: bool,
}

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let (x, b) = (numbers(x, lx)?, numbers(b, lb)?);
        let mut out = x.to_vec();
        for row in out.chunks_exact_mut(b.len().max(1)) {
            for (o, b) in row.iter_mut().zip(b) {
                *o += b;
            }
        }
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let db = match self.trainable {
            true => Some(with_numbers(g, |g| tensor_like(column_sums(g, b.dim(0)?), b))?),
            false => None,
        };
        Ok((Some(g.clone()), db))
    }
}

/// `x [N, out] + bias [out]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn add_bias(x: &Tensor, bias: &Tensor, trainable: bool) -> CandleResult<Tensor> {
    if x.dim(D::Minus1)? != bias.dim(0)? {
        bail!("bias {:?} for {:?}", bias.dims(), x.dims());
    }
    match on_kernels(x) {
        true => x.contiguous()?.apply_op2(&bias.contiguous()?, AddBias { trainable }),
        false => x.broadcast_add(bias),
    }
}

struct LinearPacked(Arc<Packed>);

impl CustomOp1 for LinearPacked {
    fn name(&self) -> &'static str {
        "linear-packed"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let (rows, inputs) = lx.shape().dims2()?;
        let mut out = vec![0.0; rows * self.0.columns()];
        matmul(Left::rows(numbers(x, lx)?, inputs), &self.0, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((rows, self.0.columns()))))
    }
}

/// `x [N, in] @ weight [out, in]^T` -> `[N, out]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, trainable: bool) -> CandleResult<Tensor> {
    match on_kernels(x) {
        true => x.contiguous()?.apply_op2(&weight.contiguous()?, Linear { trainable }),
        false if trainable => x.matmul(&weight.t()?),
        false => x.matmul(&weight.detach().t()?),
    }
}

/// As [`linear`] with a weight packed once; no gradient.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear_packed(x: &Tensor, weight: &Arc<Packed>) -> CandleResult<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&LinearPacked(weight.clone()))
}
