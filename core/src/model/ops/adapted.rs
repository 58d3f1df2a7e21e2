//! A frozen linear layer and its low-rank adapter as one node.
//!
//! Composed of single operations the layer keeps four tensors of its output's size for the backward pass: the frozen
//! product, the adapter's, that one scaled, and the sum. As one node it keeps the sum, and computes the same bits.

use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

use super::{CandleResult, numbers, tensor_like, with_numbers};
use crate::model::kernels::matmul::{Left, Packed, matmul};

struct Adapted {
    weight: Tensor,
    bias: Option<Tensor>,
    scaling: f32,
}

impl CustomOp3 for Adapted {
    fn name(&self) -> &'static str {
        "adapted-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        down: &CpuStorage,
        ld: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let (rows, inputs) = lx.shape().dims2()?;
        let (outputs, rank) = lb.shape().dims2()?;
        let product = |left: &[f32], weight: &[f32], inputs: usize| {
            let mut out = vec![0.0; rows * outputs];
            matmul(Left::rows(left, inputs), &Packed::of_weight(weight, outputs, inputs), &mut out);
            out
        };
        let x = numbers(x, lx)?;
        let mut out = with_numbers(&self.weight, |weight| Ok(product(x, weight, inputs)))?;
        if let Some(bias) = &self.bias {
            with_numbers(bias, |bias| {
                for row in out.chunks_exact_mut(outputs) {
                    row.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
                }
                Ok(())
            })?;
        }
        let up = product(numbers(down, ld)?, numbers(b, lb)?, rank);
        out.iter_mut().zip(up).for_each(|(o, up)| *o += up * self.scaling);
        Ok((CpuStorage::F32(out), Shape::from((rows, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        down: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rows, inputs) = x.dims2()?;
        let (outputs, rank) = b.dims2()?;
        let through = |g: &[f32], weight: &Tensor, inputs: usize| {
            with_numbers(weight, |weight| {
                let mut slopes = vec![0.0; rows * inputs];
                let packed = Packed::new(weight, outputs, inputs, inputs, 1);
                matmul(Left::rows(g, outputs), &packed, &mut slopes);
                Ok(slopes)
            })
        };
        with_numbers(g, |g| {
            let dx = tensor_like(through(g, &self.weight, inputs)?, x)?;
            let scaled: Vec<f32> = g.iter().map(|g| g * self.scaling).collect();
            let ddown = tensor_like(through(&scaled, b, rank)?, down)?;
            let db = with_numbers(down, |down| {
                let mut db = vec![0.0; outputs * rank];
                let packed = Packed::new(down, rows, rank, rank, 1);
                matmul(Left::transposed(&scaled, outputs), &packed, &mut db);
                tensor_like(db, b)
            })?;
            Ok((Some(dx), Some(ddown), Some(db)))
        })
    }
}

/// `x [N, in] @ weight [out, in]^T + bias [out] + scaling * down [N, r] @ b [out, r]^T` -> `[N, out]`. Weight and bias
/// are frozen; on the CPU in f32 only.
///
/// # Errors
/// When the shapes do not fit.
pub fn adapted_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    down: &Tensor,
    b: &Tensor,
    scaling: f64,
) -> CandleResult<Tensor> {
    let op = Adapted {
        weight: weight.contiguous()?.detach(),
        bias: bias.map(Tensor::detach),
        scaling: scaling as f32,
    };
    x.contiguous()?.apply_op3(&down.contiguous()?, &b.contiguous()?, op)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::model::ops::{add_bias, linear};

    #[test]
    fn it_is_bit_for_bit_what_single_operations_give_forward_and_backward() {
        let drawn = |shape: (usize, usize)| Var::randn(0f32, 1.0, shape, &Device::Cpu).expect("drawn");
        let (x, weight, a, b) = (drawn((21, 10)), drawn((17, 10)), drawn((3, 10)), drawn((17, 3)));
        let bias = Tensor::randn(0f32, 1.0, 17, &Device::Cpu).expect("drawn");
        let frozen = weight.as_tensor();
        for bias in [None, Some(&bias)] {
            let down = || linear(&x, &a, true).expect("down");
            let one = adapted_linear(&x, frozen, bias, &down(), &b, 0.3).expect("one");
            let mut single = linear(&x, frozen, false).expect("product");
            if let Some(bias) = bias {
                single = add_bias(&single, bias, false).expect("bias");
            }
            let up = (linear(&down(), &b, true).expect("up") * 0.3).expect("scaled");
            let single = (single + up).expect("sum");
            let bits = |x: &Tensor| {
                let values: Vec<f32> = x.flatten_all().and_then(|x| x.to_vec1()).expect("values");
                values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(bits(&one), bits(&single));
            let slopes = |y: &Tensor| {
                let store = y.sqr().and_then(|y| y.sum_all()).and_then(|y| y.backward()).expect("backward");
                [&x, &a, &b].map(|of| bits(store.get(of.as_tensor()).expect("a gradient")))
            };
            assert_eq!(slopes(&one), slopes(&single));
        }
    }
}
