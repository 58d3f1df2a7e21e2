//! Keys, values and hidden states of every token in the prefix tree, by slot.

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

use super::attend::{self, Row};
use super::gather;
use super::lanes::WIDTH;
use super::network::Shape;
use crate::model::{AttentionSpec, Cache};
use crate::{Error, Result};

/// The memory of a generation engine.
pub(super) struct Pool {
    shape: Shape,
    device: Device,
    layers: Layers,
    /// `[slot][hidden]`, in f32 on the host: what logits are made of again when a prefix is met again.
    hidden: Vec<f32>,
}

enum Layers {
    /// One pair of vectors a layer, laid out as [`attend::Layer`] says.
    Host(Vec<(Vec<f32>, Vec<f32>)>),
    /// One pair of tensors `[slots, kv_heads * head_dim]` a layer.
    Device(Vec<(Tensor, Tensor)>),
}

/// Bytes that one token takes.
pub(super) fn bytes_per_token(shape: &Shape, device: &Device, dtype: DType) -> usize {
    let number = if device.is_cpu() { 4 } else { dtype.size_in_bytes() };
    shape.layers * 2 * shape.kv_heads * shape.head_dim * number + shape.hidden * 4
}

impl Pool {
    /// Room for `slots` tokens, a multiple of [`WIDTH`]. On the CPU the system hands out pages as they are touched.
    pub(super) fn new(shape: Shape, slots: usize, device: &Device, dtype: DType) -> Result<Self> {
        let width = shape.kv_heads * shape.head_dim;
        debug_assert!(slots.is_multiple_of(WIDTH));
        let layers = if device.is_cpu() {
            // A vector may reach past the end of the last row of values.
            let pair = |_| (vec![0.0; slots * width], vec![0.0; slots * width + WIDTH]);
            Layers::Host((0..shape.layers).map(pair).collect())
        } else {
            let zeros = || Tensor::zeros((slots, width), dtype, device);
            let pairs: candle_core::Result<_> = (0..shape.layers).map(|_| Ok((zeros()?, zeros()?))).collect();
            Layers::Device(pairs?)
        };
        Ok(Self { shape, device: device.clone(), layers, hidden: vec![0.0; slots * shape.hidden] })
    }

    /// A pool that takes the path for devices on the CPU: what tests compare the kernel with.
    #[cfg(test)]
    pub(super) fn as_device(shape: Shape, slots: usize) -> Result<Self> {
        let mut pool = Self::new(shape, WIDTH, &Device::Cpu, DType::F32)?;
        let width = shape.kv_heads * shape.head_dim;
        let zeros = || Tensor::zeros((slots, width), DType::F32, &Device::Cpu);
        let pairs: candle_core::Result<_> = (0..shape.layers).map(|_| Ok((zeros()?, zeros()?))).collect();
        pool.layers = Layers::Device(pairs?);
        pool.hidden = vec![0.0; slots * shape.hidden];
        Ok(pool)
    }

    /// Keeps the hidden states `[rows, hidden]` of a step.
    pub(super) fn keep(&mut self, rows: &[Row<'_>], hidden: &Tensor) -> Result<()> {
        let width = self.shape.hidden;
        let kept = &mut self.hidden;
        with_slice(hidden, |values| {
            for (row, values) in rows.iter().zip(values.chunks_exact(width)) {
                let at = row.slot as usize * width;
                kept[at..at + width].copy_from_slice(values);
            }
        })
    }

    /// Hidden states `[slots, hidden]` of slots that were computed.
    pub(super) fn recall(&self, slots: &[u32], dtype: DType) -> Result<Tensor> {
        let width = self.shape.hidden;
        let mut values = Vec::with_capacity(slots.len() * width);
        for slot in slots {
            values.extend_from_slice(&self.hidden[*slot as usize * width..][..width]);
        }
        Ok(Tensor::from_vec(values, (slots.len(), width), &self.device)?.to_dtype(dtype)?)
    }
}

/// The cache as one packed step sees it.
pub(super) struct Step<'a> {
    pub(super) pool: &'a mut Pool,
    pub(super) rows: &'a [Row<'a>],
}

impl Cache for Step<'_> {
    fn attend(
        &mut self,
        layer: usize,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        spec: &AttentionSpec,
    ) -> Result<Tensor> {
        let shape = &self.pool.shape;
        let rows = self.rows.len();
        let fits = layer < shape.layers
            && spec.kv_heads == shape.kv_heads
            && spec.head_dim == shape.head_dim
            && spec.heads.is_multiple_of(spec.kv_heads.max(1));
        if !fits || q.dims() != [rows, spec.heads * spec.head_dim] || k.dims() != v.dims() {
            return Err(Error::unusable(format!(
                "layer {layer} attends with {spec:?}, q {:?}, k {:?}; the cache was made for {shape:?} and {rows} rows",
                q.dims(),
                k.dims()
            )));
        }
        match &mut self.pool.layers {
            Layers::Host(layers) => {
                let (keys, values) = &mut layers[layer];
                with_slice(k, |k| with_slice(v, |v| attend::write(keys, values, self.rows, k, v, spec)))??;
                let mut out = vec![0.0; rows * spec.heads * spec.head_dim];
                let layer = attend::Layer { keys, values };
                with_slice(q, |q| attend::attend(&layer, self.rows, q, &mut out, spec))?;
                Ok(Tensor::from_vec(out, q.dims(), q.device())?.to_dtype(q.dtype())?)
            }
            Layers::Device(layers) => gather::attend(&layers[layer], self.rows, q, k, v, spec),
        }
    }
}

/// Shows the numbers of a tensor, without a copy where they lie on the host, in f32 and in order.
pub(super) fn with_slice<R>(tensor: &Tensor, show: impl FnOnce(&[f32]) -> R) -> Result<R> {
    if tensor.dtype() == DType::F32 && tensor.device().is_cpu() && tensor.is_contiguous() {
        let (storage, layout) = tensor.storage_and_layout();
        if let (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) =
            (&*storage, layout.contiguous_offsets())
        {
            return Ok(show(&values[from..to]));
        }
    }
    let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    Ok(show(&values))
}
