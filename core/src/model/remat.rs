//! Gradient checkpointing: a block's activations are dropped after the forward pass and computed again in the backward
//! pass, from its input. Gradients have the same bits as without.

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

struct Again {
    decoder: Decoder,
    layer: usize,
    packed: Packed,
    angles: Arc<Angles>,
    pass: Pass,
}

impl CustomOp2 for Again {
    fn name(&self) -> &'static str {
        "checkpointed-block"
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
        let y = self
            .decoder
            .packed_block(self.layer, x.as_tensor(), &self.packed, &self.angles, &self.pass)
            .map_err(|error| candle_core::Error::Msg(error.to_string()))?;
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
    let y = decoder.packed_block(layer, &x.detach(), packed, angles, pass)?.detach().contiguous()?;
    // The backward pass only visits what leads to a variable: with frozen embeddings the first input has to be one.
    let x = if x.track_op() { x.clone() } else { Var::from_tensor(x)?.into_inner() };
    let again = Again {
        decoder: decoder.clone(),
        layer,
        packed: packed.clone(),
        angles: angles.clone(),
        pass: *pass,
    };
    Ok(x.apply_op2(&y, again)?)
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
