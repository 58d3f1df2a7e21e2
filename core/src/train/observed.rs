//! An objective whose losses are noticed, for measurements; it saves nothing.

use std::path::Path;

use candle_core::Var;

use super::{Fingerprint, Objective, PartialLoss};
use crate::Result;
use crate::model::Pass;

/// Calls back before every loss of the objective within.
pub struct Observed<'a> {
    inner: &'a dyn Objective,
    before_loss: &'a dyn Fn(),
}

impl<'a> Observed<'a> {
    /// Wraps an objective.
    pub fn new(inner: &'a dyn Objective, before_loss: &'a dyn Fn()) -> Self {
        Self { inner, before_loss }
    }
}

impl Objective for Observed<'_> {
    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn tokens(&self, row: usize) -> usize {
        self.inner.tokens(row)
    }

    fn name(&self, row: usize) -> String {
        self.inner.name(row)
    }

    fn weight(&self, rows: &[usize]) -> f64 {
        self.inner.weight(rows)
    }

    fn loss(&self, rows: &[usize], pass: &Pass) -> Result<PartialLoss> {
        (self.before_loss)();
        self.inner.loss(rows, pass)
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        self.inner.trainable()
    }

    fn save(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint()
    }

    fn learning_rate_scale(&self, name: &str) -> f64 {
        self.inner.learning_rate_scale(name)
    }
}
