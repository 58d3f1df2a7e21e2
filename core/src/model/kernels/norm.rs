//! RMSNorm and LayerNorm over rows, forward and backward.

use rayon::prelude::*;

use super::{rows_per_task, widest};

/// Rows whose weight gradients are summed one after the other, whatever the threads.
const BLOCK: usize = 64;

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    // Sixteen partial sums in a fixed order: vectorises, and the bits depend on the row only.
    let mut sums = [0.0f32; 16];
    let (whole, rest) = x.as_chunks::<16>();
    for chunk in whole {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += v * v;
        }
    }
    let total = sums.iter().sum::<f32>() + rest.iter().map(|v| v * v).sum::<f32>();
    1.0 / (total / x.len() as f32 + eps).sqrt()
}

/// `x / rms(x) * w` for every row of width `w.len()`.
pub fn rms(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let d = w.len();
    let chunk = rows_per_task(x.len() / d) * d;
    out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| rms_rows(x, w, eps, out));
}

widest! { fn rms_rows(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) = rms_rows_body }

#[inline(always)]
fn rms_rows_body(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    for (out, x) in out.chunks_exact_mut(w.len()).zip(x.chunks_exact(w.len())) {
        let r = inverse_rms(x, eps);
        for ((o, x), w) in out.iter_mut().zip(x).zip(w) {
            *o = x * r * w;
        }
    }
}

/// Gradients of [`rms`]: of x, and of w unless it is frozen.
pub fn rms_backward(x: &[f32], w: &[f32], g: &[f32], eps: f32, weight: bool) -> (Vec<f32>, Option<Vec<f32>>) {
    let d = w.len();
    let mut dx = vec![0.0; x.len()];
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(BLOCK * d)
        .zip(x.par_chunks(BLOCK * d))
        .zip(g.par_chunks(BLOCK * d))
        .map(|((dx, x), g)| {
            let mut dw = vec![0.0; if weight { d } else { 0 }];
            rms_backward_rows(x, w, g, eps, dx, &mut dw);
            dw
        })
        .collect();
    let dw = weight.then(|| {
        let mut total = vec![0.0; d];
        for part in parts {
            for (t, p) in total.iter_mut().zip(part) {
                *t += p;
            }
        }
        total
    });
    (dx, dw)
}

widest! {
    /// `dw` is empty where the weight is frozen.
    fn rms_backward_rows(x: &[f32], w: &[f32], g: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32])
        = rms_backward_rows_body
}

#[inline(always)]
fn rms_backward_rows_body(x: &[f32], w: &[f32], g: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32]) {
    let d = w.len();
    for ((dx, x), g) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(g.chunks_exact(d)) {
        let r = inverse_rms(x, eps);
        let dot: f32 = g.iter().zip(w).zip(x).map(|((g, w), x)| g * w * x).sum();
        let k = dot * r * r * r / d as f32;
        for (((dx, x), g), w) in dx.iter_mut().zip(x).zip(g).zip(w) {
            *dx = g * w * r - x * k;
        }
        for ((dw, x), g) in dw.iter_mut().zip(x).zip(g) {
            *dw += g * x * r;
        }
    }
}

/// Mean and 1 / standard deviation of a row.
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let sum = |f: &dyn Fn(f32) -> f32| {
        let mut sums = [0.0f32; 16];
        let (whole, rest) = x.as_chunks::<16>();
        for chunk in whole {
            for (sum, v) in sums.iter_mut().zip(chunk) {
                *sum += f(*v);
            }
        }
        sums.iter().sum::<f32>() + rest.iter().map(|v| f(*v)).sum::<f32>()
    };
    let count = x.len() as f32;
    let mean = sum(&|v| v) / count;
    let variance = sum(&|v| (v - mean) * (v - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// `(x - mean) / deviation * w + b` for every row of width `w.len()`.
pub fn layer(x: &[f32], w: &[f32], b: &[f32], eps: f32, out: &mut [f32]) {
    let d = w.len();
    let chunk = rows_per_task(x.len() / d) * d;
    out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            let (mean, r) = moments(x, eps);
            for (((o, x), w), b) in out.iter_mut().zip(x).zip(w).zip(b) {
                *o = (x - mean) * r * w + b;
            }
        }
    });
}

/// Gradients of [`layer`]: of x, and of w and b unless they are frozen.
pub fn layer_backward(
    x: &[f32],
    w: &[f32],
    g: &[f32],
    eps: f32,
    weight: bool,
) -> (Vec<f32>, Option<(Vec<f32>, Vec<f32>)>) {
    let d = w.len();
    let mut dx = vec![0.0; x.len()];
    let parts: Vec<(Vec<f32>, Vec<f32>)> = dx
        .par_chunks_mut(BLOCK * d)
        .zip(x.par_chunks(BLOCK * d))
        .zip(g.par_chunks(BLOCK * d))
        .map(|((dx, x), g)| {
            let kept = if weight { d } else { 0 };
            let (mut dw, mut db) = (vec![0.0; kept], vec![0.0; kept]);
            for ((dx, x), g) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(g.chunks_exact(d)) {
                let (mean, r) = moments(x, eps);
                let (mut sum, mut dot) = (0.0f32, 0.0f32);
                for ((g, w), x) in g.iter().zip(w).zip(x) {
                    sum += g * w;
                    dot += g * w * (x - mean) * r;
                }
                let (sum, dot) = (sum / d as f32, dot / d as f32);
                for (((dx, x), g), w) in dx.iter_mut().zip(x).zip(g).zip(w) {
                    *dx = r * (g * w - sum - (x - mean) * r * dot);
                }
                for (((dw, db), x), g) in dw.iter_mut().zip(&mut db).zip(x).zip(g) {
                    *dw += g * (x - mean) * r;
                    *db += g;
                }
            }
            (dw, db)
        })
        .collect();
    let totals = weight.then(|| {
        let (mut dw, mut db) = (vec![0.0; d], vec![0.0; d]);
        for (part_w, part_b) in parts {
            for (total, part) in [(&mut dw, part_w), (&mut db, part_b)] {
                for (t, p) in total.iter_mut().zip(part) {
                    *t += p;
                }
            }
        }
        (dw, db)
    });
    (dx, totals)
}

/// Sums of columns, blocks of rows in a fixed order: the gradient of a bias.
pub fn column_sums(g: &[f32], width: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = g
        .par_chunks(BLOCK * width)
        .map(|g| {
            let mut sums = vec![0.0; width];
            for row in g.chunks_exact(width) {
                for (s, g) in sums.iter_mut().zip(row) {
                    *s += g;
                }
            }
            sums
        })
        .collect();
    let mut total = vec![0.0; width];
    for part in parts {
        for (t, p) in total.iter_mut().zip(part) {
            *t += p;
        }
    }
    total
}
