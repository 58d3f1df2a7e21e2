//! Rotary position embedding on the first dimensions of every head, half-rotation form.

use rayon::prelude::*;

use super::{rows_per_task, widest};

/// Cosines and sines of N tokens: `[N, half]` each, half the number of rotated dimensions.
#[derive(Debug, Clone)]
pub struct Angles {
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
    /// Pairs that are rotated.
    pub half: usize,
}

/// Rotates `[N, heads * head_dim]`; `sign` -1 rotates back, which is also the gradient.
pub fn rotate(x: &[f32], width: usize, head_dim: usize, angles: &Angles, sign: f32) -> Vec<f32> {
    let half = angles.half;
    let mut out = x.to_vec();
    let rows = rows_per_task(x.len() / width);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(chunk, out)| {
        let at = chunk * rows * half;
        rotate_rows(out, width, head_dim, &angles.cos[at..], &angles.sin[at..], half, sign);
    });
    out
}

widest! {
    fn rotate_rows(
        out: &mut [f32], width: usize, head_dim: usize, cos: &[f32], sin: &[f32], half: usize, sign: f32,
    ) = rotate_rows_body
}

#[inline(always)]
fn rotate_rows_body(
    out: &mut [f32],
    width: usize,
    head_dim: usize,
    cos: &[f32],
    sin: &[f32],
    half: usize,
    sign: f32,
) {
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (row, (cos, sin)) in out.chunks_exact_mut(width).zip(angles) {
        for head in row.chunks_exact_mut(head_dim) {
            let (a, b) = head[..2 * half].split_at_mut(half);
            for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                let (x, y) = (*a, *b);
                *a = x * c - sign * (y * s);
                *b = y * c + sign * (x * s);
            }
        }
    }
}
