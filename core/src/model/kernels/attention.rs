//! Causal attention over packed sequences, block-diagonal: a token sees the earlier tokens of its own sequence.
//!
//! Forward keeps nothing; backward computes the probabilities again, so memory grows with tokens, not their square.

use rayon::prelude::*;

use super::activation::{exp, tanh};
use super::matmul::{Left, Packed as Panels, matmul_here};
use super::widest;
use crate::model::attention::visible;
use crate::model::{AttentionSpec, Fork, Packed};

/// Rows that share one product: later keys than the last of them are not computed.
const ROWS: usize = 48;

/// One sequence's numbers of one head, copied out of `[N, width]`.
fn head(x: &[f32], width: usize, tokens: &std::ops::Range<usize>, at: usize, head_dim: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(tokens.len() * head_dim);
    for row in x[tokens.start * width..tokens.end * width].chunks_exact(width) {
        rows.extend_from_slice(&row[at..at + head_dim]);
    }
    rows
}

/// Probabilities of the rows `rows` over keys `0..rows.end`, and the slope that a soft cap leaves (empty without).
fn probabilities(
    q: &[f32],
    keys: &Panels,
    rows: std::ops::Range<usize>,
    fork: Option<Fork>,
    spec: &AttentionSpec,
    p: &mut [f32],
    slope: &mut Vec<f32>,
) {
    let (d, seen) = (spec.head_dim, rows.end);
    matmul_here(Left::rows(&q[rows.start * d..rows.end * d], d), keys, p, keys.columns());
    slope.clear();
    for (r, row) in p.chunks_exact_mut(keys.columns()).enumerate() {
        let (one, two) = visible(rows.start + r, spec.window, fork);
        let row = &mut row[..seen];
        if let Some(cap) = spec.softcap {
            for s in row.iter_mut() {
                let t = tanh(*s * spec.scale / cap);
                *s = cap * t;
                slope.push(1.0 - t * t);
            }
        } else {
            for s in row.iter_mut() {
                *s *= spec.scale;
            }
        }
        row[..one.start].fill(0.0);
        row[one.end..two.start].fill(0.0);
        row[two.end..].fill(0.0);
        let (before, behind) = row.split_at_mut(two.start);
        softmax(&mut before[one], &mut behind[..two.len()]);
    }
}

widest! { fn softmax(one: &mut [f32], two: &mut [f32]) = softmax_body }

/// Over two runs of one row. What lies between them is 0 and adds nothing, so the bits are those of a row without a gap.
#[inline(always)]
fn softmax_body(one: &mut [f32], two: &mut [f32]) {
    let most = one.iter().chain(two.iter()).copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for run in [&mut *one, &mut *two] {
        for s in run.iter_mut() {
            *s = exp(*s - most);
        }
        for s in run.iter() {
            total += *s;
        }
    }
    for run in [one, two] {
        for s in run.iter_mut() {
            *s /= total;
        }
    }
}

fn blocks(length: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..length.div_ceil(ROWS)).map(move |b| b * ROWS..((b + 1) * ROWS).min(length))
}

/// Sequences and key heads as independent pieces of work.
fn pieces(packed: &Packed, kv_heads: usize) -> Vec<(std::ops::Range<usize>, usize, Option<Fork>)> {
    let sequences = packed.starts.windows(2).enumerate();
    sequences.flat_map(|(n, w)| (0..kv_heads).map(move |kv| (w[0]..w[1], kv, packed.fork(n)))).collect()
}

/// `[N, heads * head_dim]` of queries, keys and values packed alike.
pub fn forward(q: &[f32], k: &[f32], v: &[f32], packed: &Packed, spec: &AttentionSpec) -> Vec<f32> {
    let d = spec.head_dim;
    let (wq, wk) = (spec.heads * d, spec.kv_heads * d);
    let group = spec.heads / spec.kv_heads;
    let done: Vec<Vec<Vec<f32>>> = pieces(packed, spec.kv_heads)
        .par_iter()
        .map(|(tokens, kv, fork)| {
            let length = tokens.len();
            let (keys, values) = (head(k, wk, tokens, kv * d, d), head(v, wk, tokens, kv * d, d));
            let mut p = Vec::new();
            let mut slope = Vec::new();
            let mut outs = vec![vec![0.0; length * d]; group];
            for rows in blocks(length) {
                let seen = Panels::of_weight(&keys[..rows.end * d], rows.end, d);
                let summed = Panels::new(&values[..rows.end * d], rows.end, d, d, 1);
                for (g, out) in outs.iter_mut().enumerate() {
                    let queries = head(q, wq, tokens, (kv * group + g) * d, d);
                    p.resize(rows.len() * rows.end, 0.0);
                    probabilities(&queries, &seen, rows.clone(), *fork, spec, &mut p, &mut slope);
                    matmul_here(Left::rows(&p, rows.end), &summed, &mut out[rows.start * d..rows.end * d], d);
                }
            }
            outs
        })
        .collect();
    let mut out = vec![0.0; q.len()];
    for ((tokens, kv, _), outs) in pieces(packed, spec.kv_heads).into_iter().zip(done) {
        for (g, head_out) in outs.iter().enumerate() {
            put(&mut out, wq, &tokens, (kv * group + g) * d, d, head_out);
        }
    }
    out
}

fn put(out: &mut [f32], width: usize, tokens: &std::ops::Range<usize>, at: usize, d: usize, from: &[f32]) {
    for (t, row) in tokens.clone().zip(from.chunks_exact(d)) {
        out[t * width + at..t * width + at + d].copy_from_slice(row);
    }
}

fn add(into: &mut [f32], from: &[f32]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += b;
    }
}

/// Gradients of queries, keys and values, given that of the result.
pub fn backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    g: &[f32],
    packed: &Packed,
    spec: &AttentionSpec,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let d = spec.head_dim;
    let (wq, wk) = (spec.heads * d, spec.kv_heads * d);
    let group = spec.heads / spec.kv_heads;
    let done: Vec<(Vec<Vec<f32>>, Vec<f32>, Vec<f32>)> = pieces(packed, spec.kv_heads)
        .par_iter()
        .map(|(tokens, kv, fork)| {
            let length = tokens.len();
            let (keys, values) = (head(k, wk, tokens, kv * d, d), head(v, wk, tokens, kv * d, d));
            let (mut dk, mut dv) = (vec![0.0; length * d], vec![0.0; length * d]);
            let mut dqs = vec![vec![0.0; length * d]; group];
            let (mut p, mut ds, mut slope, mut part) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for rows in blocks(length) {
                let (count, seen) = (rows.len(), rows.end);
                let key_columns = Panels::of_weight(&keys[..seen * d], seen, d);
                let key_rows = Panels::new(&keys[..seen * d], seen, d, d, 1);
                let value_columns = Panels::of_weight(&values[..seen * d], seen, d);
                for (j, dq) in dqs.iter_mut().enumerate() {
                    let at = (kv * group + j) * d;
                    let queries = head(q, wq, tokens, at, d);
                    let grads = head(g, wq, tokens, at, d);
                    let (queries_here, grads_here) =
                        (&queries[rows.start * d..seen * d], &grads[rows.start * d..seen * d]);
                    p.resize(count * seen, 0.0);
                    ds.resize(count * seen, 0.0);
                    probabilities(&queries, &key_columns, rows.clone(), *fork, spec, &mut p, &mut slope);
                    // dV += P^T G
                    part.resize(seen * d, 0.0);
                    matmul_here(
                        Left::transposed(&p, seen),
                        &Panels::new(grads_here, count, d, d, 1),
                        &mut part,
                        d,
                    );
                    add(&mut dv, &part);
                    // dS = P * (G V^T - rowsum(P * G V^T)), through the soft cap and the scale
                    matmul_here(Left::rows(grads_here, d), &value_columns, &mut ds, seen);
                    for (r, (ds, p)) in ds.chunks_exact_mut(seen).zip(p.chunks_exact(seen)).enumerate() {
                        let dot: f32 = ds.iter().zip(p).map(|(a, b)| a * b).sum();
                        for (s, p) in ds.iter_mut().zip(p) {
                            *s = p * (*s - dot) * spec.scale;
                        }
                        if !slope.is_empty() {
                            for (s, slope) in ds.iter_mut().zip(&slope[r * seen..]) {
                                *s *= slope;
                            }
                        }
                    }
                    matmul_here(Left::rows(&ds, seen), &key_rows, &mut dq[rows.start * d..seen * d], d);
                    matmul_here(
                        Left::transposed(&ds, seen),
                        &Panels::new(queries_here, count, d, d, 1),
                        &mut part,
                        d,
                    );
                    add(&mut dk, &part);
                }
            }
            (dqs, dk, dv)
        })
        .collect();
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    for ((tokens, kv, _), (queries, keys, values)) in pieces(packed, spec.kv_heads).into_iter().zip(done) {
        put(&mut dk, wk, &tokens, kv * d, d, &keys);
        put(&mut dv, wk, &tokens, kv * d, d, &values);
        for (j, queries) in queries.iter().enumerate() {
            put(&mut dq, wq, &tokens, (kv * group + j) * d, d, queries);
        }
    }
    (dq, dk, dv)
}
