//! Gradient checkpointing: what a part of the computation holds is dropped after the forward pass and computed again in
//! the backward pass, from its input. Gradients have the same bits as without.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Shape, Tensor, Var};

use super::kernels::rotary::Angles;
use super::{Decoder, Packed, Pass};
use crate::error::Result;

thread_local! {
    /// Weight gradients found while blocks were computed again, in the order of the backward pass.
    static FOUND: RefCell<Vec<(Var, Tensor)>> = const { RefCell::new(Vec::new()) };
}

struct Again<F> {
    decoder: Decoder,
    run: F,
}

impl<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync> CustomOp2 for Again<F> {
    fn name(&self) -> &'static str {
        "computed-again"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        y: &CpuStorage,
        ly: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((y.clone(), ly.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        y: &CudaStorage,
        ly: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        Ok((y.try_clone(ly)?, ly.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let x = Var::from_tensor(&x.detach())?;
        let y = (self.run)(x.as_tensor()).map_err(|error| candle_core::Error::Msg(error.to_string()))?;
        let mut gradients = (y * g)?.sum_all()?.backward()?;
        for (_, variable) in self.decoder.trainable() {
            if let Some(gradient) = gradients.remove(variable.as_tensor()) {
                FOUND.with_borrow_mut(|found| found.push((variable, gradient.detach())));
            }
        }
        Ok((gradients.remove(x.as_tensor()).map(|gradient| gradient.detach()), None))
    }
}

/// One block whose activations are not kept.
pub(super) fn block(
    decoder: &Decoder,
    layer: usize,
    x: &Tensor,
    packed: &Packed,
    angles: &Arc<Angles>,
    pass: &Pass,
) -> Result<Tensor> {
    let (again, packed, angles, pass) = (decoder.clone(), packed.clone(), angles.clone(), *pass);
    let run = move |x: &Tensor| again.packed_block(layer, x, &packed, &angles, &pass);
    let y = run(&x.detach())?.detach().contiguous()?;
    computed_again(decoder, x, &y, run)
}

/// `y`, which is `run(x)` without its graph; the backward pass computes it again. `run` uses no other variables than
/// those of `decoder`, and the loss goes through [`gradients`].
///
/// # Errors
/// What the device says.
pub(crate) fn computed_again(
    decoder: &Decoder,
    x: &Tensor,
    y: &Tensor,
    run: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    // The backward pass only visits what leads to a variable: with frozen embeddings the first input has to be one.
    let x = if x.track_op() { x.clone() } else { Var::from_tensor(x)?.into_inner() };
    Ok(x.apply_op2(y, Again { decoder: decoder.clone(), run })?)
}

/// Gradients of a scalar loss, with those of checkpointed blocks.
///
/// # Errors
/// What the device says.
pub fn gradients(loss: &Tensor) -> Result<GradStore> {
    FOUND.with_borrow_mut(Vec::clear);
    let mut store = loss.backward()?;
    for (variable, gradient) in FOUND.with_borrow_mut(std::mem::take) {
        let total = match store.remove(variable.as_tensor()) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        store.insert(variable.as_tensor(), total);
    }
    Ok(store)
}
