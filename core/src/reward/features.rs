//! The base model's own log-probabilities of a step as features: a model that can calculate finds a wrong line unlikely.
//!
//! Six numbers a step, none below -8: the smallest of the step's tokens, the smallest of the path so far, the mean; and
//! the same three over the tokens that an annotation `<<...>>` decides (inside it, its end, and the token after).

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout as TensorLayout, Shape, Tensor, bail};

use crate::Result;
use crate::model::Tokenizer;

/// Features of a step.
pub(super) const COUNT: usize = 6;
/// Smaller features say nothing more.
const FLOOR: f32 = -8.0;

/// Which token ids begin and end an annotation.
#[derive(Debug, Clone, Default)]
pub(super) struct Annotations {
    opens: Vec<u32>,
    closes: Vec<u32>,
}

impl Annotations {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let mut found = Self::default();
        for (token, id) in tokenizer.inner().get_vocab(true) {
            if token.ends_with("<<") {
                found.opens.push(id);
            }
            if token.starts_with(">>") {
                found.closes.push(id);
            }
        }
        found.opens.sort_unstable();
        found.closes.sort_unstable();
        found
    }

    /// For every token whether an annotation decides it.
    pub(super) fn decided(&self, ids: &[u32]) -> Vec<bool> {
        let mut open = 0i32;
        // A close takes effect two tokens later: it and the result after it still count.
        let mut closing = [false; 2];
        ids.iter()
            .map(|id| {
                open -= i32::from(closing[0]);
                closing = [closing[1], self.closes.binary_search(id).is_ok()];
                let decided = open > 0;
                open += i32::from(self.opens.binary_search(id).is_ok());
                decided
            })
            .collect()
    }
}

/// One step's tokens among the log-probabilities of a batch.
#[derive(Debug, Clone)]
pub(super) struct StepTokens {
    pub(super) all: Range<usize>,
    /// Places of the tokens that an annotation decides.
    pub(super) decided: Vec<usize>,
    /// The first step of its path.
    pub(super) first: bool,
}

/// `[M]` log-probabilities to `[steps, 6]`, on the CPU; differentiable.
pub(super) fn features(logprobs: &Tensor, steps: Vec<StepTokens>) -> Result<Tensor> {
    Ok(logprobs.apply_op1(Features { steps })?)
}

struct Features {
    steps: Vec<StepTokens>,
}

/// Smallest and where, and mean; zeros of nothing.
fn summary(values: &[f32], places: impl Iterator<Item = usize>) -> (f32, Option<usize>, f32) {
    let (mut least, mut at, mut sum, mut count) = (0.0_f32, None, 0.0, 0);
    for place in places {
        if at.is_none() || values[place] < least {
            (least, at) = (values[place], Some(place));
        }
        sum += values[place];
        count += 1;
    }
    (least, at, sum / count.max(1) as f32)
}

impl Features {
    /// For every step and family: smallest, smallest so far (each with its place), mean.
    fn each(&self, values: &[f32], mut take: impl FnMut(usize, usize, [(f32, Option<usize>); 2], f32)) {
        let mut so_far = [(0.0_f32, None); 2];
        for (number, step) in self.steps.iter().enumerate() {
            let families = [summary(values, step.all.clone()), summary(values, step.decided.iter().copied())];
            for (family, (least, at, mean)) in families.into_iter().enumerate() {
                if step.first || (at.is_some() && (so_far[family].1.is_none() || least < so_far[family].0)) {
                    so_far[family] = (least, at);
                }
                take(number, family, [(least, at), so_far[family]], mean);
            }
        }
    }
}

impl CustomOp1 for Features {
    fn name(&self) -> &'static str {
        "step-features"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &TensorLayout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(all), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
            bail!("step features need contiguous f32 log-probabilities")
        };
        let mut out = vec![0.0; self.steps.len() * COUNT];
        self.each(&all[from..to], |step, family, [(least, _), (so_far, _)], mean| {
            let place = step * COUNT + family * 3;
            for (offset, value) in [least, so_far, mean].into_iter().enumerate() {
                out[place + offset] = value.max(FLOOR);
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((self.steps.len(), COUNT))))
    }

    fn bwd(&self, logprobs: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let values: Vec<f32> = logprobs.to_vec1()?;
        let grad: Vec<f32> = grad.flatten_all()?.to_vec1()?;
        let mut out = vec![0.0; values.len()];
        self.each(&values, |step, family, least, mean| {
            let place = step * COUNT + family * 3;
            for (offset, (value, at)) in least.into_iter().enumerate() {
                if let Some(at) = at.filter(|_| value >= FLOOR) {
                    out[at] += grad[place + offset];
                }
            }
            if mean >= FLOOR {
                let tokens = &self.steps[step];
                let mut spread = |places: &mut dyn Iterator<Item = usize>, count: usize| {
                    places.for_each(|at| out[at] += grad[place + 2] / count.max(1) as f32);
                };
                match family {
                    0 => spread(&mut tokens.all.clone(), tokens.all.len()),
                    _ => spread(&mut tokens.decided.iter().copied(), tokens.decided.len()),
                }
            }
        });
        Tensor::from_vec(out, values.len(), logprobs.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn steps() -> Vec<StepTokens> {
        vec![
            StepTokens { all: 0..3, decided: vec![1], first: true },
            StepTokens { all: 3..5, decided: vec![], first: false },
            StepTokens { all: 5..7, decided: vec![5, 6], first: true },
        ]
    }

    #[test]
    fn least_least_so_far_and_mean() {
        let values =
            Tensor::new(&[-1.0_f32, -2.0, -3.0, -0.5, -0.1, -20.0, -1.0], &Device::Cpu).expect("values");
        let rows = features(&values, steps()).and_then(|x| Ok(x.to_vec2::<f32>()?)).expect("features");
        assert_eq!(rows[0], [-3.0, -3.0, -2.0, -2.0, -2.0, -2.0]);
        assert_eq!(rows[1], [-0.5, -3.0, -0.3, 0.0, -2.0, 0.0]);
        assert_eq!(rows[2], [-8.0, -8.0, -8.0, -8.0, -8.0, -8.0]);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let base = [-1.0_f32, -2.0, -3.0, -0.5, -0.1, -4.0, -1.0];
        let weights: Vec<f32> = (0..18).map(|n| (n as f32 * 0.37).sin()).collect();
        let loss = |values: &Tensor| {
            let weights = Tensor::from_slice(&weights, (3, 6), &Device::Cpu).expect("weights");
            features(values, steps()).and_then(|x| Ok((x * weights)?.sum_all()?)).expect("a loss")
        };
        let var = Var::new(&base, &Device::Cpu).expect("a variable");
        let grads = loss(&var).backward().expect("gradients");
        let grads: Vec<f32> = grads.get(&var).expect("reached").to_vec1().expect("values");
        for (place, grad) in grads.iter().enumerate() {
            let at = |delta: f32| {
                let mut moved = base;
                moved[place] += delta;
                loss(&Tensor::new(&moved, &Device::Cpu).expect("values"))
                    .to_scalar::<f32>()
                    .expect("a number")
            };
            let finite = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((grad - finite).abs() < 1e-3, "token {place}: {grad} {finite}");
        }
    }

    #[test]
    fn annotations_decide_their_inside_their_end_and_the_result() {
        let marks = Annotations { opens: vec![10], closes: vec![20] };
        let decided = marks.decided(&[1, 10, 2, 3, 20, 4, 5, 10, 6]);
        assert_eq!(decided, [false, false, true, true, true, true, false, false, true]);
    }
}
