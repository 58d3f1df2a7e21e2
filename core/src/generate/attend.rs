//! Attention of new tokens over slots of the cache, on the CPU.
//!
//! One unit of work is one token and one key head with the query heads that share it. Keys lie in blocks of sixteen
//! slots, one number of all sixteen side by side, so a score is a lane and needs no horizontal sum; values lie row by
//! row. Scores go into a row in the order of positions and everything after that runs over the row, so neither where
//! a token's slots lie nor what else is in the batch changes a bit.
#![allow(unsafe_code, reason = "vector loads over slices whose bounds are checked once per call")]

use rayon::prelude::*;

use super::lanes::{Lanes, WIDTH, widest};
use crate::model::AttentionSpec;

/// Slots that lie side by side in one block of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) slot: u32,
    pub(super) len: u32,
}

/// The slots of a sequence, first token first.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    runs: Vec<Run>,
}

impl Chain {
    pub(super) fn push(&mut self, slot: u32) {
        if let Some(last) = self.runs.last_mut()
            && slot == last.slot + last.len
            && !(slot as usize).is_multiple_of(WIDTH)
        {
            last.len += 1;
            return;
        }
        self.runs.push(Run { slot, len: 1 });
    }

    /// The first `len` slots, one by one.
    pub(super) fn slots(&self, len: usize) -> impl Iterator<Item = u32> {
        self.runs.iter().flat_map(|run| run.slot..run.slot + run.len).take(len)
    }
}

/// A new token: its slot is the last of the first `len` slots of `chain`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) slot: u32,
    pub(super) len: usize,
    pub(super) chain: &'a Chain,
}

/// Keys and values of one layer.
pub(super) struct Layer<'a> {
    /// `[block][key head][head_dim][WIDTH]`.
    pub(super) keys: &'a [f32],
    /// `[block][key head][WIDTH][head_dim]`.
    pub(super) values: &'a [f32],
}

/// Work below this many multiply-adds stays on the calling thread.
const WORTH_A_THREAD: usize = 200_000;

/// Writes the keys and values of new tokens into their slots.
pub(super) fn write(
    keys: &mut [f32],
    values: &mut [f32],
    rows: &[Row<'_>],
    k: &[f32],
    v: &[f32],
    spec: &AttentionSpec,
) {
    let (hd, kv) = (spec.head_dim, spec.kv_heads);
    for (i, row) in rows.iter().enumerate() {
        let (block, lane) = (row.slot as usize / WIDTH, row.slot as usize % WIDTH);
        for g in 0..kv {
            let from = (i * kv + g) * hd;
            let base = (block * kv + g) * hd * WIDTH;
            let column = &mut keys[base + lane..base + hd * WIDTH];
            for (to, from) in column.iter_mut().step_by(WIDTH).zip(&k[from..from + hd]) {
                *to = *from;
            }
            let base = base + lane * hd;
            values[base..base + hd].copy_from_slice(&v[from..from + hd]);
        }
    }
}

/// Attends from every row; `q` and `out` are `[rows, heads * head_dim]`.
pub(super) fn attend(layer: &Layer<'_>, rows: &[Row<'_>], q: &[f32], out: &mut [f32], spec: &AttentionSpec) {
    let share = spec.heads / spec.kv_heads * spec.head_dim;
    let work: usize = rows.iter().map(|row| row.len).sum::<usize>() * spec.heads * spec.head_dim * 2;
    let unit = |scores: &mut Vec<f32>, index: usize, out: &mut [f32]| {
        let (row, g) = (&rows[index / spec.kv_heads], index % spec.kv_heads);
        one(layer, row, g, &q[index * share..(index + 1) * share], out, spec, scores);
    };
    if work < WORTH_A_THREAD || rayon::current_num_threads() == 1 {
        let mut scores = Vec::new();
        for (index, out) in out.chunks_exact_mut(share).enumerate() {
            unit(&mut scores, index, out);
        }
    } else {
        out.par_chunks_exact_mut(share)
            .enumerate()
            .with_min_len(8)
            .for_each_init(Vec::new, |scores, (index, out)| unit(scores, index, out));
    }
}

widest! {
    /// One token, one key head.
    fn one(
        layer: &Layer<'_>,
        row: &Row<'_>,
        g: usize,
        q: &[f32],
        out: &mut [f32],
        spec: &AttentionSpec,
        scratch: &mut Vec<f32>,
    ) = one_body
}

/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
unsafe fn one_body<L: Lanes>(
    layer: &Layer<'_>,
    row: &Row<'_>,
    g: usize,
    q: &[f32],
    out: &mut [f32],
    spec: &AttentionSpec,
    scratch: &mut Vec<f32>,
) {
    let hd = spec.head_dim;
    let heads = spec.heads / spec.kv_heads;
    let first = spec.window.map_or(0, |window| row.len.saturating_sub(window));
    // Rows of scores are whole vectors with room for one more behind the last.
    let stride = (row.len - first).next_multiple_of(WIDTH) + WIDTH;
    scratch.clear();
    scratch.resize(heads * stride, f32::NEG_INFINITY);
    let place = Place { kv: spec.kv_heads, g, hd, first, len: row.len };
    // SAFETY: the callees check that every block they read lies inside the layer; rows of scratch are `stride` long.
    unsafe {
        let mut head = 0;
        while head < heads {
            let many = if heads - head >= 4 { 4 } else { heads - head };
            let (q, s) =
                (&q[head * hd..(head + many) * hd], &mut scratch[head * stride..(head + many) * stride]);
            match many {
                4 => scores::<L, 4, 1>(layer.keys, row.chain, &place, q, s, stride, spec),
                3 => scores::<L, 3, 1>(layer.keys, row.chain, &place, q, s, stride, spec),
                2 => scores::<L, 2, 2>(layer.keys, row.chain, &place, q, s, stride, spec),
                _ => scores::<L, 1, 4>(layer.keys, row.chain, &place, q, s, stride, spec),
            }
            head += many;
        }
        let mut head = 0;
        while head < heads {
            let many = match heads - head {
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            let mut shares = [0.0; 4];
            let s = &mut scratch[head * stride..(head + many) * stride];
            for (share, row) in shares.iter_mut().zip(s.chunks_exact_mut(stride)) {
                *share = softmax::<L>(&mut row[..stride - WIDTH]);
            }
            let out = &mut out[head * hd..(head + many) * hd];
            let mut from = 0;
            while from < hd {
                let vectors = (hd - from).div_ceil(WIDTH).min(4);
                let sum = Sum {
                    values: layer.values,
                    chain: row.chain,
                    place: &place,
                    weights: s,
                    stride,
                    shares,
                    from,
                };
                // Spelled out, so that each is compiled into this function and with its instruction set.
                match (many, vectors) {
                    (4, 4) => weigh::<L, 4, 4>(&sum, out),
                    (4, 3) => weigh::<L, 4, 3>(&sum, out),
                    (4, 2) => weigh::<L, 4, 2>(&sum, out),
                    (4, _) => weigh::<L, 4, 1>(&sum, out),
                    (2, 4) => weigh::<L, 2, 4>(&sum, out),
                    (2, 3) => weigh::<L, 2, 3>(&sum, out),
                    (2, 2) => weigh::<L, 2, 2>(&sum, out),
                    (2, _) => weigh::<L, 2, 1>(&sum, out),
                    (_, 4) => weigh::<L, 1, 4>(&sum, out),
                    (_, 3) => weigh::<L, 1, 3>(&sum, out),
                    (_, 2) => weigh::<L, 1, 2>(&sum, out),
                    (_, _) => weigh::<L, 1, 1>(&sum, out),
                }
                from += vectors * WIDTH;
            }
            head += many;
        }
    }
}

/// Which part of a layer a unit of work reads.
struct Place {
    kv: usize,
    g: usize,
    hd: usize,
    /// First position that is seen.
    first: usize,
    /// Position after the last.
    len: usize,
}

impl Place {
    /// Start of the block and head in keys and values alike.
    #[inline(always)]
    fn base(&self, slot: usize) -> usize {
        (slot / WIDTH * self.kv + self.g) * self.hd * WIDTH
    }

    /// Calls `visit(slot, how many, position less the first)` for every stretch of slots that is seen.
    #[inline(always)]
    fn stretches(&self, chain: &Chain, mut visit: impl FnMut(usize, usize, usize)) {
        let mut position = 0;
        for run in &chain.runs {
            if position >= self.len {
                break;
            }
            let end = (position + run.len as usize).min(self.len);
            let begin = position.max(self.first);
            if begin < end {
                visit(run.slot as usize + begin - position, end - begin, begin - self.first);
            }
            position += run.len as usize;
        }
    }
}

/// Scaled scores of `R` query heads; `P` partial sums per score hide the latency of the multiply-add.
///
/// # Safety
/// The instruction set of `L` is there; `out` is `R * stride` with a free vector at the end of each row.
#[inline(always)]
unsafe fn scores<L: Lanes, const R: usize, const P: usize>(
    keys: &[f32],
    chain: &Chain,
    place: &Place,
    q: &[f32],
    out: &mut [f32],
    stride: usize,
    spec: &AttentionSpec,
) {
    let hd = place.hd;
    assert!(q.len() == R * hd && out.len() == R * stride);
    place.stretches(chain, |slot, many, at| {
        let base = place.base(slot);
        let block = &keys[base..base + hd * WIDTH];
        assert!(at + WIDTH <= stride);
        // SAFETY: `block` is hd vectors, `q` R * hd numbers, and each row of `out` has WIDTH numbers from `at`.
        unsafe {
            let mut sums = [[L::splat(0.0); P]; R];
            let mut d = 0;
            while d + P <= hd {
                for p in 0..P {
                    let key = L::load(block.as_ptr().add((d + p) * WIDTH));
                    for r in 0..R {
                        sums[r][p] = key.fma(L::splat(*q.get_unchecked(r * hd + d + p)), sums[r][p]);
                    }
                }
                d += P;
            }
            while d < hd {
                let key = L::load(block.as_ptr().add(d * WIDTH));
                for r in 0..R {
                    sums[r][0] = key.fma(L::splat(*q.get_unchecked(r * hd + d)), sums[r][0]);
                }
                d += 1;
            }
            for r in 0..R {
                let mut sum = sums[r][0];
                for p in 1..P {
                    sum = sum.add(sums[r][p]);
                }
                let row = out.as_mut_ptr().add(r * stride + at);
                let scaled = sum.mul(L::splat(spec.scale));
                let lane = slot % WIDTH;
                if lane == 0 {
                    // What lies behind the stretch is overwritten by the next one or by the padding below.
                    scaled.store(row);
                } else {
                    let mut all = [0.0f32; WIDTH];
                    scaled.store(all.as_mut_ptr());
                    std::ptr::copy_nonoverlapping(all.as_ptr().add(lane), row, many);
                }
            }
        }
    });
    let seen = place.len - place.first;
    for row in out.chunks_exact_mut(stride) {
        if let Some(cap) = spec.softcap {
            for score in &mut row[..seen] {
                *score = cap * (*score / cap).tanh();
            }
        }
        row[seen..].fill(f32::NEG_INFINITY);
    }
}

/// Turns scores into e^(score - largest) and returns 1 / their sum.
///
/// # Safety
/// The instruction set of `L` is there; `row` is whole vectors.
#[inline(always)]
unsafe fn softmax<L: Lanes>(row: &mut [f32]) -> f32 {
    // SAFETY: every chunk is WIDTH numbers.
    unsafe {
        let mut largest = L::splat(f32::NEG_INFINITY);
        for chunk in row.chunks_exact(WIDTH) {
            largest = largest.max(L::load(chunk.as_ptr()));
        }
        let mut lanes = [0.0f32; WIDTH];
        largest.store(lanes.as_mut_ptr());
        let largest = lanes.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
        let mut sum = L::splat(0.0);
        for chunk in row.chunks_exact_mut(WIDTH) {
            let e = L::load(chunk.as_ptr()).add(L::splat(-largest)).exp();
            e.store(chunk.as_mut_ptr());
            sum = sum.add(e);
        }
        sum.store(lanes.as_mut_ptr());
        1.0 / tree_sum(&lanes)
    }
}

/// Sum of sixteen numbers, pairwise.
#[inline(always)]
pub(super) fn tree_sum(lanes: &[f32; WIDTH]) -> f32 {
    let mut sums = *lanes;
    let mut half = WIDTH / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// What a weighted sum of values reads.
struct Sum<'a> {
    values: &'a [f32],
    chain: &'a Chain,
    place: &'a Place,
    /// Rows of `stride` weights, one a query head.
    weights: &'a [f32],
    stride: usize,
    /// What each row's sum is multiplied by.
    shares: [f32; 4],
    /// First number of a head.
    from: usize,
}

/// Weighted sums of values for `R` query heads, `V` vectors of a head from number `from`. The last vector may reach past
/// the head, into the next row; what it adds up there is dropped.
///
/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
unsafe fn weigh<L: Lanes, const R: usize, const V: usize>(sum: &Sum<'_>, out: &mut [f32]) {
    let Sum { values, chain, place, weights, stride, shares, from } = *sum;
    let hd = place.hd;
    assert!(weights.len() == R * stride && out.len() == R * hd && from < hd);
    // SAFETY: a stretch lies in one block, so its rows follow each other; `rows` holds V vectors from the last of them
    // on; weights of a stretch lie inside their row.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; R];
        place.stretches(chain, |slot, many, at| {
            let base = place.base(slot) + slot % WIDTH * hd + from;
            let rows = &values[base..base + (many - 1) * hd + V * WIDTH];
            assert!(at + many <= stride);
            for j in 0..many {
                let mut row = [L::splat(0.0); V];
                for v in 0..V {
                    row[v] = L::load(rows.as_ptr().add(j * hd + v * WIDTH));
                }
                for r in 0..R {
                    let weight = L::splat(*weights.get_unchecked(r * stride + at + j));
                    for v in 0..V {
                        sums[r][v] = row[v].fma(weight, sums[r][v]);
                    }
                }
            }
        });
        for r in 0..R {
            for v in 0..V {
                let mut lanes = [0.0f32; WIDTH];
                sums[r][v].mul(L::splat(shares[r])).store(lanes.as_mut_ptr());
                let to = &mut out[r * hd..(r + 1) * hd];
                let start = from + v * WIDTH;
                let end = (start + WIDTH).min(hd);
                to[start..end].copy_from_slice(&lanes[..end - start]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use sipf_plugin::random::Stream;

    use super::*;
    use crate::generate::cache::{Pool, Step, with_slice};
    use crate::generate::network::Shape;
    use crate::model::Cache;

    /// Chains with forks, holes and several runs: every row against the gathered form in tensor operations.
    #[test]
    fn the_kernel_agrees_with_the_tensor_form() {
        for (heads, kv_heads, head_dim, window, softcap) in [
            (4, 2, 32, None, None),
            (8, 8, 8, None, None),
            (5, 1, 80, Some(9), None),
            (6, 2, 100, None, Some(5.0)),
            (4, 1, 256, Some(30), Some(20.0)),
        ] {
            let shape = Shape { layers: 1, kv_heads, head_dim, hidden: 16, vocab: 2, context: 256 };
            let spec = AttentionSpec { heads, kv_heads, head_dim, scale: 0.2, window, softcap };
            let mut chains = Vec::new();
            // Runs of slots of each chain.
            let runs: [&[std::ops::Range<u32>]; 3] =
                [&[0..39, 39..40], &[0..21, 48..70], &[64 + 9..64 + 12, 3..5, 90..91, 95..96, 80..85]];
            for runs in runs {
                let mut chain = Chain::default();
                runs.iter().cloned().flatten().for_each(|slot| chain.push(slot));
                chains.push(chain);
            }
            let mut rows = Vec::new();
            for chain in &chains {
                let slots: Vec<u32> = chain.slots(usize::MAX).collect();
                rows.extend(slots.iter().zip(1..).map(|(slot, len)| Row { slot: *slot, len, chain }));
            }
            // The shared beginning is computed once; later rows of the same slot would write the same.
            let mut stream = Stream::new(5);
            let mut numbers = |width: usize| {
                let values: Vec<f32> = (0..rows.len() * width).map(|_| stream.normal()).collect();
                Tensor::from_vec(values, (rows.len(), width), &Device::Cpu).expect("a tensor")
            };
            let (q, k, v) =
                (numbers(heads * head_dim), numbers(kv_heads * head_dim), numbers(kv_heads * head_dim));
            let attend = |mut pool: Pool, rows: &[Row<'_>], q: &Tensor, k: &Tensor, v: &Tensor| -> Vec<f32> {
                let out = Step { pool: &mut pool, rows }.attend(0, q, k, v, &spec).expect("attends");
                with_slice(&out, <[f32]>::to_vec).expect("numbers")
            };
            let host = || Pool::new(shape, 96, &Device::Cpu, candle_core::DType::F32).expect("a pool");
            let own = attend(host(), &rows, &q, &k, &v);
            let tensors = attend(Pool::as_device(shape, 96).expect("a pool"), &rows, &q, &k, &v);
            for (i, (a, b)) in own.iter().zip(&tensors).enumerate() {
                assert!(
                    (a - b).abs() < 2e-5,
                    "heads {heads}/{kv_heads} x {head_dim}, number {i}: {a} and {b}"
                );
            }
        }
    }
}
