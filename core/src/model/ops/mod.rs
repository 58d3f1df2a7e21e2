//! The kernels as differentiable operations. On the CPU in f32 each is one node with its own backward; anywhere else the
//! same function composes candle's differentiable operations.
//!
//! Inputs are made contiguous where they are not. Frozen weights get no gradient.

mod adapted;
mod attend;
mod dropout;
mod gate;
mod linear;
mod norm;
mod rotary;

use candle_core::{CpuStorage, DType, Layout, Storage, Tensor, bail};

pub use adapted::adapted_linear;
pub use attend::attend;
pub use dropout::dropout;
pub use gate::{activate, gated};
pub use linear::{add_bias, linear, linear_packed};
pub use norm::{layer_norm, rms_norm};
pub use rotary::rotary;

type CandleResult<T> = candle_core::Result<T>;

/// Whether the kernels serve this tensor.
pub fn on_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The numbers of a contiguous f32 tensor on the CPU.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> CandleResult<&'a [f32]> {
    let CpuStorage::F32(all) = storage else { bail!("kernels take f32, found {:?}", storage_type(storage)) };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("kernels take contiguous tensors, found {layout:?}"),
    }
}

fn storage_type(storage: &CpuStorage) -> DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// Calls `f` with a tensor's numbers.
pub fn with_numbers<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> CandleResult<R>) -> CandleResult<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(numbers(storage, layout)?),
        _ => bail!("kernels run on the CPU"),
    }
}

fn tensor_like(values: Vec<f32>, like: &Tensor) -> CandleResult<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())
}
