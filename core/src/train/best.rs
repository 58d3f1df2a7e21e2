//! The best evaluation so far: its weights beside the run, and whether it is time to stop.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::save;
use crate::{AtPath, Error, Result};

/// Name of the file below the output folder, while the training runs.
const FILE: &str = "best.safetensors";

/// What was best, and since when nothing was better.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    /// Step of the best evaluation.
    pub(super) step: usize,
    /// Its value; `None`: none yet.
    pub(super) value: Option<f64>,
    /// Evaluations since.
    pub(super) worse: usize,
}

/// Losses and the like get better downwards, everything else upwards.
fn better(metric: &str, value: f64, before: f64) -> bool {
    match metric.ends_with("loss") || metric == "entropy" {
        true => value < before,
        false => value > before,
    }
}

impl Best {
    /// Takes an evaluation; says whether it is the best so far.
    pub(super) fn take(&mut self, step: usize, metric: &str, figures: &Map<String, Value>) -> Result<bool> {
        let value = figures.get(metric).and_then(Value::as_f64).ok_or_else(|| {
            let known: Vec<&str> = figures.keys().map(String::as_str).collect();
            Error::unusable(format!("best-metric is {metric:?}; evaluation gives {}", known.join(", ")))
        })?;
        let is_best = self.value.is_none_or(|before| better(metric, value, before));
        *self = match is_best {
            true => Self { step, value: Some(value), worse: 0 },
            false => Self { worse: self.worse + 1, ..self.clone() },
        };
        Ok(is_best)
    }
}

/// Keeps the weights of the best evaluation. A training that is gone on with meets the same evaluations again and
/// writes the same file again.
pub(super) fn keep(folder: &Path, vars: &[(String, Var)]) -> Result<()> {
    let tensors: BTreeMap<String, Tensor> =
        vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    save::write_tensors(&folder.join(FILE), &tensors)
}

/// Puts them back.
pub(super) fn restore(folder: &Path, vars: &[(String, Var)]) -> Result<()> {
    let path = folder.join(FILE);
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
    for (name, var) in vars {
        let tensor = tensors.get(name).ok_or_else(|| Error::file(&path, format!("lacks tensor {name}")))?;
        var.set(&tensor.to_device(var.device())?)?;
    }
    Ok(())
}

/// The file goes when the training is finished.
pub(super) fn forget(folder: &Path) -> Result<()> {
    let path = folder.join(FILE);
    match path.is_file() {
        true => std::fs::remove_file(&path).at(&path),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_fall_and_accuracies_rise() {
        let figures = |name: &str, value: f64| Map::from_iter([(name.to_owned(), value.into())]);
        let mut best = Best::default();
        let taken: Vec<bool> = [2.0, 1.0, 1.5, 0.5]
            .iter()
            .zip(1..)
            .map(|(value, step)| best.take(step, "loss", &figures("loss", *value)).expect("taken"))
            .collect();
        assert_eq!(taken, [true, true, false, true]);
        assert_eq!(best, Best { step: 4, value: Some(0.5), worse: 0 });
        let mut best = Best::default();
        for (step, value) in [(1, 0.5), (2, 0.4), (3, 0.5)] {
            best.take(step, "rewards/accuracies", &figures("rewards/accuracies", value)).expect("taken");
        }
        assert_eq!(best, Best { step: 1, value: Some(0.5), worse: 2 });
        let error = best.take(4, "f1", &figures("loss", 0.0)).expect_err("unknown").to_string();
        assert!(error.contains("\"f1\"") && error.contains("loss"), "{error}");
    }
}
