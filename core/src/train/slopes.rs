//! A scalar whose derivative is known in closed form, as a node of the graph.
//!
//! A pairwise loss is a formula over a handful of sums: it is evaluated in f64, derivatives included, and enters the
//! graph here. No chain of small tensor operations that rounds in f32 and may cut a gradient.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};

use crate::Result;

struct WithSlopes {
    value: f64,
    slopes: Vec<f32>,
}

/// The scalar `value`, whose derivative by the n-th number of `x [N]` is `slopes[n]`; in f32.
///
/// # Errors
/// When there are not as many slopes as numbers.
pub fn with_slopes(x: &Tensor, value: f64, slopes: Vec<f32>) -> Result<Tensor> {
    if x.dims() != [slopes.len()] {
        return Err(crate::Error::unusable(format!("{} slopes for {:?}", slopes.len(), x.dims())));
    }
    Ok(x.to_device(&Device::Cpu)?.apply_op1(WithSlopes { value, slopes })?)
}

impl CustomOp1 for WithSlopes {
    fn name(&self) -> &'static str {
        "with-slopes"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let grad = grad.to_scalar::<f32>()?;
        let slopes: Vec<f32> = self.slopes.iter().map(|slope| slope * grad).collect();
        Tensor::from_vec(slopes, x.shape(), x.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    #[test]
    fn value_and_gradient_are_what_was_said() {
        let x = Var::new(&[1.0_f32, 2.0, 3.0], &Device::Cpu).expect("a variable");
        let y = with_slopes(x.as_tensor(), 7.5, vec![1.0, -2.0, 0.5]).expect("a scalar");
        assert_eq!(y.to_scalar::<f32>().expect("a number"), 7.5);
        let grads = (y * 2.0).and_then(|y| y.backward()).expect("gradients");
        let grads: Vec<f32> = grads.get(&x).expect("reached").to_vec1().expect("values");
        assert_eq!(grads, [2.0, -4.0, 1.0]);
        assert!(with_slopes(x.as_tensor(), 0.0, vec![1.0]).is_err());
    }
}
