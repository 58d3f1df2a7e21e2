//! What came of the rollouts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::label::{GOLD, OUTCOME};
use crate::record::StepLabels;

/// Counts over labelled paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelCounts {
    /// Labelled paths, reference solutions included.
    pub paths: usize,
    /// Of these, reference solutions.
    pub gold: usize,
    /// Steps of paths that were labelled by rollouts.
    pub steps: usize,
    /// Of these, steps whose label is above one half.
    pub right_steps: usize,
    /// Rollouts that count: all up to the ones that decided. Steps of one chunk share theirs.
    pub rollouts: u64,
    /// Rollouts that K from every chunk would have been.
    pub full_rollouts: u64,
}

impl LabelCounts {
    /// Counts these rows.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a StepLabels>) -> Self {
        let mut counts = Self::default();
        for row in rows {
            counts.paths += 1;
            if row.simulator == GOLD || row.simulator == OUTCOME {
                counts.gold += usize::from(row.simulator == GOLD);
                continue;
            }
            counts.steps += row.steps.len();
            counts.right_steps += row.steps.iter().filter(|step| step.label > 0.5).count();
            let chunks: BTreeMap<u32, u32> = row.steps.iter().map(|step| (step.chunk, step.tried)).collect();
            counts.rollouts += chunks.values().copied().map(u64::from).sum::<u64>();
            counts.full_rollouts += chunks.len() as u64 * u64::from(row.k);
        }
        counts
    }
}
