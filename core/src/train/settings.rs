//! Every training flag, with TRL's defaults.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the learning rate falls after warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// In a straight line to 0.
    #[default]
    Linear,
    /// Half a cosine to 0.
    Cosine,
    /// Not at all.
    Constant,
    /// Constant, then over the last 30% of the steps in a straight line to 5% (warm-up, stable, decay).
    Wsd,
}

impl std::str::FromStr for Schedule {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "linear" => Self::Linear,
            "cosine" => Self::Cosine,
            "constant" => Self::Constant,
            "wsd" => Self::Wsd,
            other => {
                return Err(Error::unusable(format!(
                    "{other:?} is no schedule: linear, cosine, constant or wsd"
                )));
            }
        })
    }
}

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct TrainSettings {
    /// Optimizer steps; 0 means as many as `epochs` make.
    pub max_steps: usize,
    /// Passes over the rows.
    pub epochs: f64,
    /// Rows of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches of an optimizer step.
    pub grad_accum: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay; biases and norms are not decayed.
    pub weight_decay: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Share of the steps spent warming up, where `warmup_steps` is 0.
    pub warmup_ratio: f64,
    /// After warm-up.
    pub lr_schedule: Schedule,
    /// Gradient clipping; 0 means none.
    pub max_grad_norm: f64,
    /// Decay of the first moment.
    pub adam_beta1: f64,
    /// Decay of the second moment.
    pub adam_beta2: f64,
    /// Added to the root of the second moment.
    pub adam_eps: f64,
    /// A new order of the rows every epoch; `false`: file order.
    pub shuffle: bool,
    /// Recompute activations in the backward pass instead of keeping them.
    pub grad_checkpointing: bool,
    /// Seed of order and dropout.
    pub seed: u64,
    /// A checkpoint every so many steps; 0: only when interrupted.
    pub save_steps: usize,
    /// A line in `metrics.jsonl` every so many steps.
    pub logging_steps: usize,
    /// Evaluation every so many steps, where there are rows for it; 0: only at the end.
    pub eval_steps: usize,
    /// Finish with the weights of the best evaluation instead of the last ones.
    pub keep_best: bool,
    /// Stop after so many evaluations without a better one; 0: never.
    pub early_stop: usize,
    /// What is compared between evaluations: `...loss` and `entropy` downwards, everything else upwards.
    pub best_metric: String,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            max_steps: 0,
            epochs: 3.0,
            batch_size: 8,
            grad_accum: 1,
            learning_rate: 2e-5,
            weight_decay: 0.0,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            lr_schedule: Schedule::Linear,
            max_grad_norm: 1.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_eps: 1e-8,
            shuffle: true,
            grad_checkpointing: false,
            seed: 42,
            save_steps: 500,
            logging_steps: 1,
            eval_steps: 0,
            keep_best: false,
            early_stop: 0,
            best_metric: "loss".into(),
        }
    }
}

impl TrainSettings {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check(&self) -> Result<()> {
        let above_0 = |value: f64| value > 0.0 && value.is_finite();
        let range = "above 0 where max-steps is not given";
        Error::unless(self.max_steps > 0 || above_0(self.epochs), "epochs", self.epochs, range)?;
        for (name, value) in [("batch-size", self.batch_size), ("grad-accum", self.grad_accum)] {
            Error::unless(value > 0, name, value, "1 or more")?;
        }
        let rates = [
            ("learning-rate", self.learning_rate),
            ("weight-decay", self.weight_decay),
            ("max-grad-norm", self.max_grad_norm),
        ];
        for (name, value) in rates {
            Error::unless(value >= 0.0 && value.is_finite(), name, value, "0 or more")?;
        }
        for (name, value) in [("adam-beta1", self.adam_beta1), ("adam-beta2", self.adam_beta2)] {
            Error::unless((0.0..1.0).contains(&value), name, value, "0 or more and below 1")?;
        }
        let share = (0.0..=1.0).contains(&self.warmup_ratio);
        Error::unless(share, "warmup-ratio", self.warmup_ratio, "between 0 and 1")?;
        Error::unless(above_0(self.adam_eps), "adam-eps", self.adam_eps, "above 0")?;
        Error::unless(self.logging_steps > 0, "logging-steps", self.logging_steps, "1 or more")?;
        Ok(())
    }

    /// Rows of an optimizer step.
    pub fn step_rows(&self) -> usize {
        self.batch_size * self.grad_accum
    }

    /// Optimizer steps over this many rows.
    pub fn steps(&self, rows: usize) -> usize {
        match self.max_steps {
            0 => (self.epochs * rows.div_ceil(self.step_rows()) as f64).ceil() as usize,
            steps => steps,
        }
    }

    /// The learning rate of step `step` (from 0) of `steps`.
    ///
    /// As transformers: warm-up gives `step / warm-up` of the peak, so that the first step of a warm-up is taken at 0.
    /// `wsd` counts from 1.
    pub fn learning_rate_at(&self, step: usize, steps: usize) -> f64 {
        let warmup = match self.warmup_steps {
            0 => (self.warmup_ratio * steps as f64).ceil() as usize,
            given => given,
        };
        if step < warmup {
            let done = if self.lr_schedule == Schedule::Wsd { step + 1 } else { step };
            return self.learning_rate * done as f64 / warmup as f64;
        }
        let left = (steps.saturating_sub(warmup)).max(1) as f64;
        let done = (step - warmup) as f64 / left;
        self.learning_rate
            * match self.lr_schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => (1.0 - done).max(0.0),
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
                Schedule::Wsd => {
                    let from = 0.7 * steps as f64;
                    match step as f64 <= from {
                        true => 1.0,
                        false => 1.0 - 0.95 * (step as f64 - from) / (0.3 * steps as f64),
                    }
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_transformers() {
        let settings = TrainSettings { learning_rate: 1.0, warmup_steps: 2, ..TrainSettings::default() };
        let rates: Vec<f64> = (0..6).map(|step| settings.learning_rate_at(step, 6)).collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
        let cosine = TrainSettings { lr_schedule: Schedule::Cosine, ..settings.clone() };
        assert!((cosine.learning_rate_at(4, 6) - 0.5).abs() < 1e-12);
        let wsd = TrainSettings { lr_schedule: Schedule::Wsd, ..settings };
        let rates: Vec<f64> = (0..10).map(|step| wsd.learning_rate_at(step, 10)).collect();
        assert_eq!(rates[..8], [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert!((rates[9] - (1.0 - 0.95 * 2.0 / 3.0)).abs() < 1e-12);
    }

    #[test]
    fn steps_follow_rows_or_the_flag() {
        let settings =
            TrainSettings { batch_size: 4, grad_accum: 2, epochs: 1.5, ..TrainSettings::default() };
        assert_eq!(settings.steps(17), 5);
        assert_eq!(TrainSettings { max_steps: 7, ..settings }.steps(17), 7);
    }

    #[test]
    fn bad_settings_are_named() {
        let error = TrainSettings { adam_beta2: 1.0, ..TrainSettings::default() }.check();
        assert!(error.is_err_and(|error| error.to_string().contains("adam-beta2 is 1")));
        assert!(TrainSettings::default().check().is_ok());
    }
}
