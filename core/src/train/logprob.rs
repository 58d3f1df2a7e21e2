//! Log-probabilities of tokens, in f32 whatever the model's type.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::Result;
use crate::model::Decoder;
use crate::model::kernels::activation::exp;
use crate::model::kernels::widest;
use crate::model::ops::with_numbers;
use crate::model::remat::computed_again;

/// Rows whose logits are computed at once, at most.
const CHUNK: usize = 4096;
/// More logits than these (256 MiB) are never held at once, whatever the number of rows and tokens of the vocabulary, as
/// long as this leaves [`FEWEST`] rows.
const HELD: usize = 1 << 26;
const FEWEST: usize = 256;

/// Log-probabilities of targets, and what is known of the distributions they were taken from.
#[derive(Debug)]
pub struct TokenScores {
    /// `[M]`, with their graph.
    pub logprobs: Tensor,
    /// M.
    pub count: usize,
    /// How many targets were the likeliest token.
    pub right: usize,
    /// Sum of the distributions' entropies, in nats.
    pub entropy: f64,
}

/// The log-probability of each target under the logits of its row: `hidden [M, H]`, M targets -> `[M]`, differentiable.
///
/// # Errors
/// When the shapes do not fit or the device fails.
pub fn token_logprobs(decoder: &Decoder, hidden: &Tensor, targets: &[u32]) -> Result<Tensor> {
    Ok(token_scores(decoder, hidden, targets)?.logprobs)
}

/// As [`token_logprobs`], with what TRL logs beside them. Where all logits are more than 256 MiB they are computed a
/// part of the rows at a time, dropped, and computed again in the backward pass.
///
/// # Errors
/// When the shapes do not fit or the device fails.
pub fn token_scores(decoder: &Decoder, hidden: &Tensor, targets: &[u32]) -> Result<TokenScores> {
    scores_within(decoder, hidden, targets, HELD)
}

fn scores_within(decoder: &Decoder, hidden: &Tensor, targets: &[u32], held: usize) -> Result<TokenScores> {
    let vocab = decoder.config().vocab;
    let drops = targets.len() * vocab > held;
    let most = if drops { (held / vocab).clamp(FEWEST, CHUNK) } else { CHUNK };
    let mut parts = Vec::new();
    let (mut right, mut entropy) = (0, 0.0);
    for (number, chunk) in targets.chunks(most).enumerate() {
        let rows = hidden.narrow(0, number * most, chunk.len())?;
        let (part, seen) = if drops {
            let (again, wanted) = (decoder.clone(), chunk.to_vec());
            let (part, seen) = gather(&decoder.logits(&rows.detach())?.detach(), chunk)?;
            let run = move |rows: &Tensor| Ok(gather(&again.logits(rows)?, &wanted)?.0);
            (computed_again(decoder, &rows, &part, run)?, seen)
        } else {
            gather(&decoder.logits(&rows)?, chunk)?
        };
        parts.push(part);
        right += seen.right;
        entropy += seen.entropy;
    }
    let logprobs = match parts.len() {
        0 => return Err(crate::Error::unusable("no token to score")),
        1 => parts.remove(0),
        _ => Tensor::cat(&parts, 0)?,
    };
    Ok(TokenScores { logprobs, count: targets.len(), right, entropy })
}

/// What a pass saw beside log-probabilities.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    right: usize,
    entropy: f64,
}

/// `log softmax(logits)[row, target[row]]`.
fn gather(logits: &Tensor, targets: &[u32]) -> Result<(Tensor, Seen)> {
    if logits.device().is_cpu() && logits.dtype() == DType::F32 {
        let shared = Arc::new(Mutex::new(Found::default()));
        let op = Gather { targets: targets.to_vec(), found: shared.clone() };
        let logprobs = logits.contiguous()?.apply_op1(op)?;
        let seen = shared.lock().unwrap_or_else(PoisonError::into_inner).seen;
        return Ok((logprobs, seen));
    }
    let logits = logits.to_dtype(DType::F32)?;
    let index = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    let most = logits.max_keepdim(D::Minus1)?.detach();
    let total = (logits.broadcast_sub(&most)?.exp()?.sum_keepdim(D::Minus1)?.log()? + &most)?;
    let picked = logits.gather(&index, 1)?;
    let right = picked.detach().ge(&most)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
    let plain = logits.detach().broadcast_sub(&total.detach())?;
    let entropy = (plain.exp()? * plain)?.sum_all()?.neg()?.to_scalar::<f32>()?;
    let seen = Seen { right: right as usize, entropy: f64::from(entropy) };
    Ok(((picked - total)?.squeeze(1)?, seen))
}

/// What the forward pass leaves to the backward pass and to the caller.
#[derive(Debug, Default)]
struct Found {
    /// `log(sum(exp(x)))` of every row.
    totals: Vec<f32>,
    seen: Seen,
}

struct Gather {
    targets: Vec<u32>,
    found: Arc<Mutex<Found>>,
}

/// Numbers that are worked on together.
const LANES: usize = 16;

widest! {
    /// One row of logits: `log(sum(exp(x)))`, the largest number, and the entropy.
    fn row_totals(row: &[f32]) -> (f32, f32, f32) = row_totals_body
}
widest! {
    /// The derivatives of `-log softmax` times `grad`, but for the target's own.
    fn row_slopes(out: &mut [f32], row: &[f32], total: f32, grad: f32) = row_slopes_body
}

#[inline(always)]
fn row_slopes_body(out: &mut [f32], row: &[f32], total: f32, grad: f32) {
    for (out, x) in out.iter_mut().zip(row) {
        *out = -grad * exp(x - total);
    }
}

/// Running sums a lane, so that the order of additions is fixed and the loops vectorise.
#[inline(always)]
fn row_totals_body(row: &[f32]) -> (f32, f32, f32) {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut tops = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (top, x) in tops.iter_mut().zip(chunk) {
            *top = if *x > *top { *x } else { *top };
        }
    }
    let most = tops.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut totals, mut weighted) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for chunk in chunks {
        for ((total, weighted), x) in totals.iter_mut().zip(&mut weighted).zip(chunk) {
            let x = *x - most;
            let e = exp(x);
            *total += e;
            *weighted += x * e;
        }
    }
    let (mut total, mut weight) = (totals.iter().sum::<f32>(), weighted.iter().sum::<f32>());
    for x in rest {
        let x = *x - most;
        total += exp(x);
        weight += x * exp(x);
    }
    let log = total.ln();
    (most + log, most, log - weight / total)
}

impl CustomOp1 for Gather {
    fn name(&self) -> &'static str {
        "token-logprob"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(all), Some((from, to))) = (logits, layout.contiguous_offsets()) else {
            bail!("token log-probabilities need contiguous f32 logits")
        };
        let (rows, width) = layout.shape().dims2()?;
        if self.targets.len() != rows || self.targets.iter().any(|target| *target as usize >= width) {
            bail!("{} targets for logits of shape {:?}", self.targets.len(), layout.shape())
        }
        let totals: Vec<(f32, f32, f32)> = all[from..to].par_chunks(width).map(row_totals).collect();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut values = Vec::with_capacity(rows);
        for ((row, target), (total, most, entropy)) in
            all[from..to].chunks(width).zip(&self.targets).zip(&totals)
        {
            let logit = row[*target as usize];
            values.push(logit - total);
            found.seen.right += usize::from(logit >= *most);
            found.seen.entropy += f64::from(*entropy);
        }
        found.totals = totals.into_iter().map(|(total, ..)| total).collect();
        Ok((CpuStorage::F32(values), Shape::from(rows)))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (rows, width) = logits.dims2()?;
        let mut out = vec![0.0_f32; rows * width];
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        with_numbers(logits, |logits| {
            with_numbers(grad, |grad| {
                out.par_chunks_mut(width)
                    .zip(logits.par_chunks(width))
                    .zip(grad.par_iter().zip(&self.targets).zip(&found.totals))
                    .for_each(|((out, row), ((grad, target), total))| {
                        row_slopes(out, row, *total, *grad);
                        out[*target as usize] += grad;
                    });
                Ok(())
            })
        })?;
        Tensor::from_vec(out, (rows, width), logits.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn a_row_with_a_number_that_is_none_has_no_total() {
        let mut row = vec![0.5_f32; 40];
        assert!((row_totals(&row).0 - (0.5 + 40.0_f32.ln())).abs() < 1e-6);
        assert!((row_totals(&row).2 - 40.0_f32.ln()).abs() < 1e-6);
        for place in [3, 39] {
            row[place] = f32::NAN;
            assert!(row_totals(&row).0.is_nan());
            row[place] = f32::INFINITY;
            assert!(!row_totals(&row).0.is_finite());
            row[place] = 0.5;
        }
    }

    #[test]
    fn dropped_logits_give_the_same_values_and_gradients() {
        use crate::model::{LoadOptions, Trainable, remat};
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/model/gemma2");
        let options = LoadOptions { trainable: Trainable::Full, ..LoadOptions::default() };
        let decoder = Decoder::load(&folder, &options).expect("a model");
        let (rows, width) = (FEWEST * 2 + 9, decoder.config().hidden);
        let numbers: Vec<f32> = (0..rows * width).map(|n| (n as f32 * 0.37).sin()).collect();
        let hidden = Var::from_vec(numbers, (rows, width), &Device::Cpu).expect("a variable");
        let targets: Vec<u32> = (0..rows as u32).map(|n| n % decoder.config().vocab as u32).collect();
        let run = |held: usize| {
            let scores = scores_within(&decoder, &hidden, &targets, held).expect("scores");
            let values: Vec<f32> = scores.logprobs.to_vec1().expect("values");
            let weights = (0..rows).map(|n| (n as f32).cos()).collect::<Vec<_>>();
            let weights = Tensor::from_vec(weights, rows, &Device::Cpu).expect("weights");
            let loss = (&scores.logprobs * weights).and_then(|x| x.sum_all()).expect("a loss");
            let store = remat::gradients(&loss).expect("gradients");
            let of =
                |var: &Tensor| -> Option<Vec<f32>> { store.get(var)?.flatten_all().ok()?.to_vec1().ok() };
            let mut slopes: Vec<_> =
                decoder.trainable().iter().filter_map(|(_, var)| of(var.as_tensor())).collect();
            slopes.push(of(hidden.as_tensor()).expect("reached"));
            (values, scores.right, scores.entropy, slopes)
        };
        let (whole, parts) = (run(usize::MAX), run(1));
        assert_eq!((&whole.0, whole.1), (&parts.0, parts.1));
        assert!((whole.2 - parts.2).abs() < 1e-6 * whole.2);
        assert_eq!((whole.3.len(), parts.3.len()), (2, 2), "the head and the hidden states");
        for (a, b) in whole.3.iter().flatten().zip(parts.3.iter().flatten()) {
            assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "{a} {b}");
        }
    }

    #[test]
    fn values_and_gradients_equal_the_composition() {
        let numbers: Vec<f32> = (0..24).map(|n| ((n * 7) % 11) as f32 / 3.0 - 1.0).collect();
        let var = Var::from_vec(numbers, (4, 6), &Device::Cpu).expect("a variable");
        let targets = [5, 0, 3, 3];
        let (fused, seen) = gather(&var, &targets).expect("log-probabilities");
        let index = Tensor::new(&targets, &Device::Cpu).and_then(|t| t.reshape((4, 1))).expect("an index");
        let plain =
            candle_nn::ops::log_softmax(&var, 1).and_then(|x| x.gather(&index, 1)).expect("a composition");
        let scale = Tensor::new(&[1.0_f32, -2.0, 0.5, 3.0], &Device::Cpu).expect("weights");
        let loss = |x: &Tensor| (x.flatten_all()? * &scale)?.sum_all();
        let (a, b) = (loss(&fused).expect("a loss"), loss(&plain).expect("a loss"));
        let (ga, gb) = (a.backward().expect("gradients"), b.backward().expect("gradients"));
        let difference = (ga.get(&var).expect("reached") - gb.get(&var).expect("reached"))
            .and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>())
            .expect("a number");
        assert!(difference < 1e-6, "{difference}");
        let logs = candle_nn::ops::log_softmax(&var, 1).expect("logs");
        let entropy = logs.exp().and_then(|p| (p * &logs)?.sum_all()?.neg()?.to_scalar::<f32>());
        assert!((seen.entropy - f64::from(entropy.expect("a number"))).abs() < 1e-5);
        let likeliest: Vec<u32> = var.argmax(1).and_then(|x| x.to_vec1()).expect("ids");
        assert_eq!(seen.right, likeliest.iter().zip(&targets).filter(|(a, b)| a == b).count());
        let values: Vec<f32> = fused.to_vec1().expect("values");
        for (value, plain) in
            values.iter().zip(plain.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("values"))
        {
            assert!((value - plain).abs() < 1e-6);
        }
    }
}
