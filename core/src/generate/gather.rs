//! Attention over slots with tensor operations: the path for devices that are not the CPU.
//!
//! The slots of each row are gathered into a padded block, rows of similar length together, so memory stays bounded.

use candle_core::{D, DType, Tensor};

use super::attend::Row;
use crate::Result;
use crate::model::AttentionSpec;

/// Numbers gathered at once, keys and values each.
const AT_ONCE: usize = 1 << 26;

/// Writes `k` and `v` into the layer and attends from every row.
pub(super) fn attend(
    layer: &(Tensor, Tensor),
    rows: &[Row<'_>],
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spec: &AttentionSpec,
) -> Result<Tensor> {
    let (keys, values) = layer;
    let width = spec.kv_heads * spec.head_dim;
    let device = keys.device();
    let slots: Vec<u32> = rows.iter().flat_map(|row| std::iter::repeat_n(row.slot, width)).collect();
    let slots = Tensor::from_vec(slots, (rows.len(), width), device)?;
    keys.scatter_set(&slots, &k.to_dtype(keys.dtype())?.contiguous()?, 0)?;
    values.scatter_set(&slots, &v.to_dtype(values.dtype())?.contiguous()?, 0)?;
    let longest = rows.iter().map(|row| seen(row, spec)).max().unwrap_or(0);
    let many = (AT_ONCE / (longest * width).max(1)).max(1);
    let mut parts = Vec::new();
    for (at, rows) in rows.chunks(many).enumerate() {
        let q = q.narrow(0, at * many, rows.len())?;
        parts.push(attend_part(keys, values, rows, &q, spec)?);
    }
    Ok(Tensor::cat(&parts, 0)?.to_dtype(q.dtype())?)
}

fn seen(row: &Row<'_>, spec: &AttentionSpec) -> usize {
    spec.window.map_or(row.len, |window| row.len.min(window))
}

fn attend_part(
    keys: &Tensor,
    values: &Tensor,
    rows: &[Row<'_>],
    q: &Tensor,
    spec: &AttentionSpec,
) -> Result<Tensor> {
    let AttentionSpec { heads, kv_heads, head_dim, .. } = *spec;
    let (n, shared) = (rows.len(), heads / kv_heads);
    let long = rows.iter().map(|row| seen(row, spec)).max().unwrap_or(0);
    let mut index = vec![0u32; n * long];
    let mut mask = vec![f32::NEG_INFINITY; n * long];
    for (i, row) in rows.iter().enumerate() {
        let many = seen(row, spec);
        for (j, slot) in row.chain.slots(row.len).skip(row.len - many).enumerate() {
            index[i * long + j] = slot;
            mask[i * long + j] = 0.0;
        }
    }
    let index = Tensor::from_vec(index, n * long, keys.device())?;
    let mask = Tensor::from_vec(mask, (n, 1, 1, long), keys.device())?;
    let pick = |from: &Tensor| -> candle_core::Result<Tensor> {
        from.index_select(&index, 0)?.reshape((n, long, kv_heads, head_dim))?.transpose(1, 2)?.contiguous()
    };
    let q = q.to_dtype(keys.dtype())?.reshape((n, kv_heads, shared, head_dim))?.contiguous()?;
    let scores = q.matmul(&pick(keys)?.transpose(2, 3)?)?.to_dtype(DType::F32)?;
    let mut scores = (scores * f64::from(spec.scale))?;
    if let Some(cap) = spec.softcap {
        scores = ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?;
    }
    let scores = scores.broadcast_add(&mask)?;
    let shares = candle_nn::ops::softmax(&scores, D::Minus1)?.to_dtype(values.dtype())?;
    Ok(shares.matmul(&pick(values)?)?.reshape((n, heads * head_dim))?)
}
