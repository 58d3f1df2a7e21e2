//! RMSNorm over rows, forward and backward.

use rayon::prelude::*;

use super::rows_per_task;

/// Rows whose weight gradients are summed one after the other, whatever the threads.
const BLOCK: usize = 64;

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
    out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            let r = inverse_rms(x, eps);
            for ((o, x), w) in out.iter_mut().zip(x).zip(w) {
                *o = x * r * w;
            }
        }
    });
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
