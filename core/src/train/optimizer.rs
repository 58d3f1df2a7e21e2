//! AdamW (Loshchilov and Hutter, 2019) with f32 moments, as torch computes it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Tensor, Var, bail};
use rayon::prelude::*;

use super::TrainSettings;
use crate::{Error, Result};

/// Numbers below which a second thread costs more than it gives.
const PARALLEL_FROM: usize = 1 << 16;

/// The optimizer: moments of every trained tensor.
pub(super) struct AdamW {
    slots: Vec<Slot>,
    settings: TrainSettings,
}

struct Slot {
    name: String,
    var: Var,
    decay: f64,
    scale: f64,
    moments: Moments,
}

enum Moments {
    /// On the CPU, updated in place.
    Host { first: Vec<f32>, second: Vec<f32> },
    /// Anywhere else.
    Device { first: Tensor, second: Tensor },
}

/// Whether weight decay applies: not to biases and norms (transformers' rule).
fn decays(name: &str) -> bool {
    let name = name.to_lowercase();
    !name.contains("bias") && !name.contains("norm")
}

impl AdamW {
    /// `scale(name)` multiplies the learning rate of a tensor.
    pub(super) fn new(
        vars: Vec<(String, Var)>,
        settings: &TrainSettings,
        scale: impl Fn(&str) -> f64,
    ) -> Result<Self> {
        let slot = |(name, var): (String, Var)| -> Result<Slot> {
            let count = var.elem_count();
            let moments = match var.device().is_cpu() && var.dtype() == DType::F32 {
                true => Moments::Host { first: vec![0.0; count], second: vec![0.0; count] },
                false => {
                    let zeros = Tensor::zeros(var.shape(), DType::F32, var.device())?;
                    Moments::Device { first: zeros.copy()?, second: zeros }
                }
            };
            let decay = if decays(&name) { settings.weight_decay } else { 0.0 };
            Ok(Slot { decay, scale: scale(&name), moments, name, var })
        };
        Ok(Self { slots: vars.into_iter().map(slot).collect::<Result<_>>()?, settings: settings.clone() })
    }

    /// One update; `grads` in the order of the tensors, `count` is the number of this update from 1, `shrink` what
    /// clipping multiplies gradients by.
    pub(super) fn step(
        &mut self,
        grads: &[Option<Tensor>],
        count: usize,
        learning_rate: f64,
        shrink: f64,
    ) -> Result<()> {
        let (beta1, beta2) = (self.settings.adam_beta1, self.settings.adam_beta2);
        let correction1 = 1.0 - beta1.powi(count as i32);
        let correction2 = 1.0 - beta2.powi(count as i32);
        for (slot, grad) in self.slots.iter_mut().zip(grads) {
            let Some(grad) = grad else { continue };
            let rate = learning_rate * slot.scale;
            let update = Update {
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                keep: (1.0 - rate * slot.decay) as f32,
                size: (rate / correction1) as f32,
                root: correction2.sqrt() as f32,
                eps: self.settings.adam_eps as f32,
                shrink: shrink as f32,
            };
            match &mut slot.moments {
                Moments::Host { first, second } => {
                    let op = HostUpdate { update, moments: RefCell::new((first, second)) };
                    slot.var.inplace_op2(&grad.contiguous()?, &op)?;
                }
                Moments::Device { first, second } => {
                    let grad = (grad.to_dtype(DType::F32)? * shrink)?.detach();
                    *first = ((&*first * beta1)? + (&grad * (1.0 - beta1))?)?.detach();
                    *second = ((&*second * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?.detach();
                    let bottom = ((second.sqrt()? / correction2.sqrt())? + self.settings.adam_eps)?;
                    let wide = (slot.var.to_dtype(DType::F32)? * f64::from(update.keep))?;
                    let new = (wide - ((&*first / bottom)? * (rate / correction1))?)?;
                    slot.var.set(&new.to_dtype(slot.var.dtype())?.detach())?;
                }
            }
        }
        Ok(())
    }

    /// Weights and moments by name, for a checkpoint.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for slot in &self.slots {
            let (first, second) = match &slot.moments {
                Moments::Host { first, second } => {
                    let tensor = |values: &Vec<f32>| {
                        Tensor::from_slice(values, slot.var.shape(), &candle_core::Device::Cpu)
                    };
                    (tensor(first)?, tensor(second)?)
                }
                Moments::Device { first, second } => (first.clone(), second.clone()),
            };
            state.insert(format!("first.{}", slot.name), first);
            state.insert(format!("second.{}", slot.name), second);
            state.insert(format!("weight.{}", slot.name), slot.var.as_tensor().clone());
        }
        Ok(state)
    }

    /// Puts back what [`Self::state`] gave.
    pub(super) fn restore(&mut self, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        for slot in &mut self.slots {
            let mut take = |part: &str| {
                let name = format!("{part}.{}", slot.name);
                let tensor = state.remove(&name).filter(|tensor| tensor.shape() == slot.var.shape());
                tensor.ok_or_else(|| {
                    Error::unusable(format!("the checkpoint has no tensor {name} of this shape"))
                })
            };
            let (first, second, weight) = (take("first")?, take("second")?, take("weight")?);
            slot.var.set(&weight.to_device(slot.var.device())?)?;
            slot.moments = match slot.moments {
                Moments::Host { .. } => Moments::Host {
                    first: first.flatten_all()?.to_vec1()?,
                    second: second.flatten_all()?.to_vec1()?,
                },
                Moments::Device { .. } => Moments::Device {
                    first: first.to_device(slot.var.device())?,
                    second: second.to_device(slot.var.device())?,
                },
            };
        }
        Ok(())
    }
}

/// The numbers of one update.
#[derive(Clone, Copy)]
struct Update {
    beta1: f32,
    beta2: f32,
    /// What weight decay leaves.
    keep: f32,
    /// Learning rate over the first moment's correction.
    size: f32,
    /// Root of the second moment's correction.
    root: f32,
    eps: f32,
    shrink: f32,
}

impl Update {
    fn apply(&self, weight: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
        for (((w, g), m), v) in weight.iter_mut().zip(grad).zip(first).zip(second) {
            let g = g * self.shrink;
            *m = self.beta1 * *m + (1.0 - self.beta1) * g;
            *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
            *w = *w * self.keep - self.size * *m / (v.sqrt() / self.root + self.eps);
        }
    }
}

struct HostUpdate<'a> {
    update: Update,
    moments: RefCell<(&'a mut Vec<f32>, &'a mut Vec<f32>)>,
}

impl InplaceOp2 for HostUpdate<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(weight), CpuStorage::F32(grad)) = (weight, grad) else {
            bail!("the optimizer takes f32 on the CPU")
        };
        let (Some((from, to)), Some((grad_from, grad_to))) =
            (weight_layout.contiguous_offsets(), grad_layout.contiguous_offsets())
        else {
            bail!("the optimizer takes contiguous tensors")
        };
        let (weight, grad) = (&mut weight[from..to], &grad[grad_from..grad_to]);
        let mut moments = self.moments.borrow_mut();
        let (first, second) = &mut *moments;
        if weight.len() < PARALLEL_FROM {
            self.update.apply(weight, grad, first, second);
            return Ok(());
        }
        let chunk = PARALLEL_FROM / 4;
        let update = self.update;
        weight
            .par_chunks_mut(chunk)
            .zip(grad.par_chunks(chunk))
            .zip(first.par_chunks_mut(chunk).zip(second.par_chunks_mut(chunk)))
            .for_each(|((weight, grad), (first, second))| update.apply(weight, grad, first, second));
        Ok(())
    }
}

/// The norm of all gradients together, in f64.
pub(super) fn norm(grads: &[Option<Tensor>]) -> Result<f64> {
    let mut total = 0.0;
    for grad in grads.iter().flatten() {
        total += if grad.device().is_cpu() && grad.dtype() == DType::F32 {
            crate::model::ops::with_numbers(grad, |numbers| Ok(square_sum(numbers)))?
        } else {
            f64::from(grad.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?)
        };
    }
    Ok(total.sqrt())
}

/// Eight running sums, so that the order of additions is fixed and the loop vectorises.
fn square_sum(numbers: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let chunks = numbers.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn two_updates_equal_torch() {
        // torch.optim.AdamW([1, -2], lr .1, betas (.9, .999), eps 1e-8, weight_decay .01); gradients [.5, -1], [.25, 3].
        let settings = TrainSettings { weight_decay: 0.01, ..TrainSettings::default() };
        let var = Var::new(&[1.0_f32, -2.0], &Device::Cpu).expect("a variable");
        let mut adam = AdamW::new(vec![("w".into(), var.clone())], &settings, |_| 1.0).expect("an optimizer");
        for (count, grad) in [(1, [0.5_f32, -1.0]), (2, [0.25, 3.0])] {
            let grad = Tensor::new(&grad, &Device::Cpu).expect("a gradient");
            adam.step(&[Some(grad)], count, 0.1, 1.0).expect("an update");
        }
        let values = var.to_vec1::<f32>().expect("values");
        for (value, torch) in values.iter().zip([0.804_883_06_f32, -1.945_521]) {
            assert!((value - torch).abs() < 1e-5, "{values:?}");
        }
    }

    #[test]
    fn biases_and_norms_do_not_decay() {
        assert!(decays("model.embed_tokens.weight") && decays("score.weight"));
        assert!(!decays("score.bias") && !decays("model.layers.0.input_layernorm.weight"));
        assert!(!decays("model.layers.0.self_attn.q_norm.weight"));
    }
}
