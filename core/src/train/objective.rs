//! What the trainer needs to know about a loss.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Tensor, Var};
use serde_json::{Map, Value};

use super::Fingerprint;
use crate::Result;
use crate::model::Pass;

/// One loss over indexed rows: SFT, ORPO, DPO, RPO or a reward model's.
pub trait Objective {
    /// How many rows there are.
    fn rows(&self) -> usize;

    /// How many tokens a row's forward pass costs.
    fn tokens(&self, row: usize) -> usize;

    /// What to call a row in an error message, for example its file and line.
    fn name(&self, row: usize) -> String;

    /// What the summed loss of these rows is divided by: their tokens, pairs or labelled steps. The trainer divides by
    /// the weight of a whole optimizer step, so micro-batches do not change the gradient.
    fn weight(&self, rows: &[usize]) -> f64;

    /// The summed loss of these rows, with its graph.
    ///
    /// # Errors
    /// When the model or the device fails.
    fn loss(&self, rows: &[usize], pass: &Pass) -> Result<PartialLoss>;

    /// What is trained, in a stable order.
    fn trainable(&self) -> Vec<(String, Var)>;

    /// Writes the finished model.
    ///
    /// # Errors
    /// When the folder cannot be written.
    fn save(&self, folder: &Path) -> Result<()>;

    /// What the finished model depends on beside [`super::TrainSettings`]: loss, rows, weights to start from. A folder
    /// that holds another training is recognised by it.
    fn fingerprint(&self) -> Fingerprint;

    /// What should be said of the rows beyond their number, for `training.json` and the summary.
    fn counts(&self) -> Map<String, Value> {
        Map::new()
    }

    /// What the learning rate of this tensor is multiplied by.
    fn learning_rate_scale(&self, name: &str) -> f64 {
        let _ = name;
        1.0
    }
}

/// A summed loss and what to log beside it.
#[derive(Debug)]
pub struct PartialLoss {
    /// The sum, not yet divided by the weight: a scalar with its graph.
    pub sum: Tensor,
    /// Means to log.
    pub metrics: Metrics,
}

/// Named means that can be added up over micro-batches.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, (f64, f64)>);

impl Metrics {
    /// Adds a sum over `count` items.
    pub fn add(&mut self, name: &str, sum: f64, count: f64) {
        let entry = self.0.entry(name.to_owned()).or_insert((0.0, 0.0));
        *entry = (entry.0 + sum, entry.1 + count);
    }

    /// Adds another set.
    pub fn merge(&mut self, other: &Self) {
        for (name, (sum, count)) in &other.0 {
            self.add(name, *sum, *count);
        }
    }

    /// Every mean, by name; names without a single item are left out.
    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0
            .iter()
            .filter(|(_, (_, count))| *count > 0.0)
            .map(|(name, (sum, count))| (name.as_str(), sum / count))
    }

    /// One mean.
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.means().find(|(known, _)| *known == name).map(|(_, mean)| mean)
    }
}
