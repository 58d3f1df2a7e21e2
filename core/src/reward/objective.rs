//! Reward models as an [`Objective`]: step labels, hard or soft, at the layout's read positions.

use std::path::Path;

use candle_core::Var;
use serde_json::Value;
use sipf_plugin::{Problem, RewardKind, RewardModel};

use super::layout::{self, Layout};
use super::loss::binary_cross_entropy;
use super::net::RewardNet;
use crate::align::{format_of, row_text};
use crate::dataset;
use crate::model::Pass;
use crate::train::{Metrics, Objective, PartialLoss};
use crate::{Error, Result};

/// A labelled path: `{prompt, completions, labels}` as TRL reads it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelRow {
    /// The problem's id, where the row has one.
    pub problem: String,
    /// What is asked.
    pub prompt: String,
    /// The steps.
    pub steps: Vec<String>,
    /// A label for each: 0 wrong, 1 right, between them a share.
    pub labels: Vec<f32>,
    /// File and line.
    pub place: String,
}

impl LabelRow {
    /// The rows of a file.
    ///
    /// # Errors
    /// Names file, line and key of the first bad row.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let mut rows = Vec::new();
        dataset::read_rows(path, format_of(path), &mut |index, row| {
            let bad = |what: String| Error::row(path, index as usize + 1, what);
            let list = |key: &str| {
                row.get(key)
                    .and_then(Value::as_array)
                    .ok_or_else(|| bad(format!("key {key:?} is missing or no list")))
            };
            let step = |value: &Value| {
                value
                    .as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| bad("\"completions\" holds something but text".into()))
            };
            let label = |value: &Value| {
                value
                    .as_bool()
                    .map(|label| f32::from(u8::from(label)))
                    .or_else(|| value.as_f64().map(|label| label as f32))
                    .filter(|label| (0.0..=1.0).contains(label))
                    .ok_or_else(|| bad(format!("label {value} is neither true, false nor between 0 and 1")))
            };
            let steps: Vec<String> = list("completions")?.iter().map(step).collect::<Result<_>>()?;
            let labels: Vec<f32> = list("labels")?.iter().map(label).collect::<Result<_>>()?;
            if steps.len() != labels.len() {
                return Err(bad(format!("{} completions and {} labels", steps.len(), labels.len())));
            }
            rows.push(Self {
                problem: row.get("problem").and_then(Value::as_str).unwrap_or_default().to_owned(),
                prompt: row_text(&row, "prompt", path, index)?.to_owned(),
                steps,
                labels,
                place: format!("{}, line {}", path.display(), index + 1),
            });
            Ok(true)
        })?;
        Ok(rows)
    }

    /// A problem that asks what the row's prompt asks.
    pub fn as_problem(&self) -> Problem {
        Problem::new(self.problem.as_str(), self.prompt.as_str())
            .extra(serde_json::json!({ "asked": self.prompt }))
    }
}

/// How rows become token ids.
pub enum RowLayout<'a> {
    /// As TRL tokenises them, with this separator.
    Trl {
        /// After every step.
        separator: &'a str,
    },
    /// As a reward model lays them out.
    Pieces(&'a dyn RewardModel),
}

/// Trains a reward model on labelled rows.
pub struct PrmObjective {
    net: RewardNet,
    rows: Vec<Row>,
    head_scale: f64,
}

struct Row {
    layout: Layout,
    /// `None`: not trained on.
    labels: Vec<Option<f32>>,
    place: String,
}

impl PrmObjective {
    /// `last_only` trains on the last step of each row; an outcome model's label is the path's, on every step.
    /// `head_scale` multiplies the learning rate of the head.
    ///
    /// # Errors
    /// When a row does not give one place to read per step, or no row has a label within the longest sequence.
    pub fn new(
        net: RewardNet,
        rows: &[LabelRow],
        layout: &RowLayout<'_>,
        last_only: bool,
        head_scale: f64,
    ) -> Result<Self> {
        let outcome = net.card().kind == RewardKind::Outcome;
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let steps: Vec<&str> = row.steps.iter().map(String::as_str).collect();
            let mut layout = match layout {
                RowLayout::Trl { separator } => layout::trl(net.tokenizer(), &row.prompt, &steps, separator)?,
                RowLayout::Pieces(reward) => net.layout(*reward, &row.as_problem(), &steps)?,
            };
            if layout.reads.len() != steps.len() {
                return Err(Error::unusable(format!(
                    "{}: {} places to read for {} steps",
                    row.place,
                    layout.reads.len(),
                    steps.len()
                )));
            }
            let whole = row.labels.iter().copied().fold(1.0, f32::min);
            layout.truncate(net.max_length());
            let kept = layout.reads.len();
            let label = |place: usize| match (outcome, last_only) {
                (_, true) if place + 1 < kept => None,
                (true, _) => Some(whole),
                _ => Some(row.labels[place]),
            };
            let labels = (0..kept).map(label).collect();
            all.push(Row { layout, labels, place: row.place.clone() });
        }
        if all.iter().all(|row| row.labels.iter().all(Option::is_none)) {
            return Err(Error::unusable(format!(
                "none of {} rows has a labelled step within {} tokens",
                rows.len(),
                net.max_length()
            )));
        }
        Ok(Self { net, rows: all, head_scale })
    }

    /// The model as trained so far.
    pub fn net(&self) -> &RewardNet {
        &self.net
    }
}

impl Objective for PrmObjective {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].layout.ids.len()
    }

    fn name(&self, row: usize) -> String {
        self.rows[row].place.clone()
    }

    fn weight(&self, rows: &[usize]) -> f64 {
        rows.iter().map(|row| self.rows[*row].labels.iter().flatten().count() as f64).sum()
    }

    fn loss(&self, rows: &[usize], pass: &Pass) -> Result<PartialLoss> {
        // A row without steps has nothing to read.
        let rows: Vec<&Row> =
            rows.iter().map(|row| &self.rows[*row]).filter(|row| !row.layout.reads.is_empty()).collect();
        let paths: Vec<&Layout> = rows.iter().map(|row| &row.layout).collect();
        let odds = self.net.log_odds(&paths, pass)?;
        let labels: Vec<Option<f32>> = rows.iter().flat_map(|row| row.labels.iter().copied()).collect();
        let labelled: Vec<u32> = labels
            .iter()
            .enumerate()
            .filter(|(_, label)| label.is_some())
            .map(|(place, _)| place as u32)
            .collect();
        let labels: Vec<f32> = labels.into_iter().flatten().collect();
        let count = labelled.len();
        let odds = odds.index_select(&candle_core::Tensor::from_vec(labelled, count, odds.device())?, 0)?;
        let losses = binary_cross_entropy(&odds, &labels)?;
        let mut metrics = Metrics::default();
        let right = odds
            .to_vec1::<f32>()?
            .iter()
            .zip(&labels)
            .filter(|(z, label)| (**z > 0.0) == (**label > 0.5))
            .count();
        metrics.add("accuracy", right as f64, count as f64);
        Ok(PartialLoss { sum: losses.sum_all()?, metrics })
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        self.net.trainable()
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.net.save(folder)
    }

    fn learning_rate_scale(&self, name: &str) -> f64 {
        if name.starts_with("score") { self.head_scale } else { 1.0 }
    }
}
