//! Activations, alone and as the gate of a feed-forward block.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::{CandleResult, numbers, on_kernels, tensor_like, with_numbers};
use crate::model::kernels::activation::Activation;
use crate::model::kernels::{rows_per_task, widest};

const GRAIN: usize = 4096;

fn chunk(len: usize) -> usize {
    rows_per_task(len).max(GRAIN)
}

struct Gated(Activation);

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let (a, b) = (numbers(a, la)?, numbers(b, lb)?);
        let mut out = vec![0.0; a.len()];
        let n = chunk(a.len());
        let act = self.0;
        out.par_chunks_mut(n)
            .zip(a.par_chunks(n).zip(b.par_chunks(n)))
            .for_each(|(out, (a, b))| gate(act, out, a, b));
        Ok((CpuStorage::F32(out), la.shape().clone()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let act = self.0;
        let (da, db) = with_numbers(a, |a| {
            with_numbers(b, |b| {
                with_numbers(g, |g| {
                    let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; a.len()]);
                    let n = chunk(a.len());
                    da.par_chunks_mut(n)
                        .zip(db.par_chunks_mut(n))
                        .zip(a.par_chunks(n).zip(b.par_chunks(n)).zip(g.par_chunks(n)))
                        .for_each(|((da, db), ((a, b), g))| gate_backward(act, da, db, a, b, g));
                    Ok((da, db))
                })
            })
        })?;
        Ok((Some(tensor_like(da, a)?), Some(tensor_like(db, b)?)))
    }
}

widest! { fn gate(act: Activation, out: &mut [f32], a: &[f32], b: &[f32]) = gate_body }

#[inline(always)]
fn gate_body(act: Activation, out: &mut [f32], a: &[f32], b: &[f32]) {
    let each = |value: fn(f32) -> f32, out: &mut [f32]| {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
            *o = value(*a) * b;
        }
    };
    match act {
        // The commonest ones apart, so that their loops have no branch and vectorise.
        Activation::Silu => {
            for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
                *o = Activation::Silu.value(*a) * b;
            }
        }
        Activation::GeluTanh => {
            for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
                *o = Activation::GeluTanh.value(*a) * b;
            }
        }
        other => each(value_of(other), out),
    }
}

widest! {
    fn gate_backward(act: Activation, da: &mut [f32], db: &mut [f32], a: &[f32], b: &[f32], g: &[f32])
        = gate_backward_body
}

#[inline(always)]
fn gate_backward_body(act: Activation, da: &mut [f32], db: &mut [f32], a: &[f32], b: &[f32], g: &[f32]) {
    match act {
        Activation::Silu => gate_slopes(Activation::Silu, da, db, a, b, g),
        Activation::GeluTanh => gate_slopes(Activation::GeluTanh, da, db, a, b, g),
        other => gate_slopes(other, da, db, a, b, g),
    }
}

#[inline(always)]
fn gate_slopes(act: Activation, da: &mut [f32], db: &mut [f32], a: &[f32], b: &[f32], g: &[f32]) {
    for ((da, db), ((a, b), g)) in da.iter_mut().zip(db).zip(a.iter().zip(b).zip(g)) {
        *da = g * b * act.slope(*a);
        *db = g * act.value(*a);
    }
}

fn value_of(act: Activation) -> fn(f32) -> f32 {
    match act {
        Activation::Silu => |x| Activation::Silu.value(x),
        Activation::GeluTanh => |x| Activation::GeluTanh.value(x),
        Activation::Gelu => |x| Activation::Gelu.value(x),
        Activation::Relu => |x| Activation::Relu.value(x),
    }
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let x = numbers(x, lx)?;
        let act = value_of(self.0);
        let mut out = vec![0.0; x.len()];
        let n = chunk(x.len());
        out.par_chunks_mut(n).zip(x.par_chunks(n)).for_each(|(o, x)| {
            for (o, x) in o.iter_mut().zip(x) {
                *o = act(*x);
            }
        });
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> CandleResult<Option<Tensor>> {
        let act = self.0;
        let dx = with_numbers(x, |x| {
            with_numbers(g, |g| {
                let mut dx = vec![0.0; x.len()];
                let n = chunk(x.len());
                dx.par_chunks_mut(n).zip(x.par_chunks(n)).zip(g.par_chunks(n)).for_each(|((d, x), g)| {
                    for ((d, x), g) in d.iter_mut().zip(x).zip(g) {
                        *d = g * act.slope(*x);
                    }
                });
                Ok(dx)
            })
        })?;
        tensor_like(dx, x).map(Some)
    }
}

/// `activation(a) * b`, elementwise.
///
/// # Errors
/// When the shapes differ.
pub fn gated(a: &Tensor, b: &Tensor, activation: Activation) -> CandleResult<Tensor> {
    match on_kernels(a) {
        true => a.contiguous()?.apply_op2(&b.contiguous()?, Gated(activation)),
        false => composed(a, activation)? * b,
    }
}

/// `activation(x)`, elementwise.
///
/// # Errors
/// What the device says.
pub fn activate(x: &Tensor, activation: Activation) -> CandleResult<Tensor> {
    match on_kernels(x) {
        true => x.contiguous()?.apply_op1(Activate(activation)),
        false => composed(x, activation),
    }
}

fn composed(x: &Tensor, activation: Activation) -> CandleResult<Tensor> {
    match activation {
        Activation::Silu => x.silu(),
        Activation::GeluTanh => x.gelu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::Relu => x.relu(),
    }
}
