//! Reward models as an [`Objective`]: step labels, hard or soft, at the layout's read positions.

use std::path::Path;

use candle_core::Var;
use serde_json::{Map, Value, json};
use sipf_plugin::{RewardKind, RewardModel};

use super::LabelRow;
use super::layout::{self, Layout};
use super::loss::binary_cross_entropy;
use super::net::RewardNet;
use crate::align::BadRows;
use crate::model::Pass;
use crate::train::{Fingerprint, Metrics, Objective, PartialLoss};
use crate::{Error, Result};

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
    lost: Lost,
    head_scale: f64,
}

/// What lies beyond the longest sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Labels that would have been trained on.
    pub labels: usize,
    /// Rows that they belong to.
    pub rows: usize,
}

struct Row {
    layout: Layout,
    /// `None`: not trained on.
    labels: Vec<Option<f32>>,
    /// Labels that lie beyond the longest sequence.
    lost: usize,
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
        Self::sifted(net, rows, layout, last_only, head_scale, &mut BadRows::stop())
    }

    /// As [`Self::new`], leaving rows that cannot be laid out to `bad`.
    ///
    /// # Errors
    /// As [`Self::new`], where `bad` stops at the first such row.
    pub fn sifted(
        net: RewardNet,
        rows: &[LabelRow],
        layout: &RowLayout<'_>,
        last_only: bool,
        head_scale: f64,
        bad: &mut BadRows,
    ) -> Result<Self> {
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            all.extend(bad.sift(laid_out(&net, row, layout, last_only))?);
        }
        if all.iter().all(|row| row.labels.iter().all(Option::is_none)) {
            return Err(Error::unusable(format!(
                "none of {} rows has a labelled step within {} tokens",
                rows.len(),
                net.max_length()
            )));
        }
        let cut = all.iter().map(|row| row.lost).filter(|lost| *lost > 0);
        let lost =
            cut.fold(Lost::default(), |sum, lost| Lost { labels: sum.labels + lost, rows: sum.rows + 1 });
        Ok(Self { net, rows: all, lost, head_scale })
    }

    /// What lies beyond the longest sequence, and is not trained on.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// The model as trained so far.
    pub fn net(&self) -> &RewardNet {
        &self.net
    }
}

/// Ids, places to read and labels of a row.
fn laid_out(net: &RewardNet, row: &LabelRow, layout: &RowLayout<'_>, last_only: bool) -> Result<Row> {
    let at = |error: Error| Error::unusable(format!("{}: {error}", row.place));
    let steps: Vec<&str> = row.steps.iter().map(String::as_str).collect();
    let mut layout = match layout {
        RowLayout::Trl { separator } => layout::trl(net.tokenizer(), &row.prompt, &steps, separator),
        RowLayout::Pieces(reward) => net.layout(*reward, &row.as_problem(), &steps),
    }
    .map_err(at)?;
    if layout.reads.len() != steps.len() {
        let found = layout.reads.len();
        return Err(at(Error::unusable(format!("{found} places to read for {} steps", steps.len()))));
    }
    let outcome = net.card().kind == RewardKind::Outcome;
    let whole = row.labels.iter().copied().fold(1.0, f32::min);
    layout.truncate(net.max_length());
    let label = |place: usize| match (outcome, last_only) {
        (_, true) if place + 1 < steps.len() => None,
        (true, _) => Some(whole),
        _ => Some(row.labels[place]),
    };
    let mut labels: Vec<Option<f32>> = (0..steps.len()).map(label).collect();
    let lost = labels.split_off(layout.reads.len()).iter().flatten().count();
    Ok(Row { layout, labels, lost, place: row.place.clone() })
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

    fn fingerprint(&self) -> Fingerprint {
        let card = serde_json::to_value(self.net.card()).unwrap_or_default();
        let mut print = Fingerprint::new(&serde_json::json!({ "card": card, "head_scale": self.head_scale }));
        print.model(self.net.decoder());
        for row in &self.rows {
            print.ids(&row.layout.ids, row.layout.reads.len());
            for (read, label) in row.layout.reads.iter().zip(&row.labels) {
                print.numbers(&[*read as f32, label.unwrap_or(-1.0)]);
            }
        }
        print
    }

    fn counts(&self) -> Map<String, Value> {
        let labels = self.rows.iter().map(|row| row.labels.iter().flatten().count()).sum::<usize>();
        let counts = [("labels", labels), ("labels_lost", self.lost.labels), ("cut_rows", self.lost.rows)];
        counts.into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect()
    }

    fn learning_rate_scale(&self, name: &str) -> f64 {
        if name.starts_with("score") { self.head_scale } else { 1.0 }
    }
}
