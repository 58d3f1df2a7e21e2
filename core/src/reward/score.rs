//! Scores every path's steps and makes one reward of them (Eq. 5), in pieces with a journal.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use sipf_plugin::{Problem, RewardModel};

use super::{RewardNet, layout};
use crate::error::per_row;
use crate::progress::Progress;
use crate::record::{Sample, ScoredPath};
use crate::work::{self, Target, Unit};
use crate::{Error, Result};

/// Paths of a piece. A path's scores do not depend on the others.
const PIECE_PATHS: usize = 256;

/// What is scored, and with what.
#[derive(Clone, Copy)]
pub struct ScoreInput<'a> {
    /// The weights.
    pub net: &'a RewardNet,
    /// Lays paths out and makes one reward of their scores.
    pub reward: &'a dyn RewardModel,
    /// The questions of the paths.
    pub problems: &'a [Problem],
    /// The paths; those that are not kept are left out.
    pub samples: &'a [Sample],
}

/// Scores all kept paths. One unit a path, in their order; one without a row is a path that the reward model's plugin
/// failed on, and `progress` notes why. Steps beyond the model's context score 0; `progress` notes how many.
///
/// # Errors
/// [`Error::Interrupted`] once `stop` is set (what is done is in the journal); a path of an unknown question; a layout
/// without one place to read per step; what the device says.
pub fn run(
    input: &ScoreInput<'_>,
    target: Target<'_>,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Vec<Unit<ScoredPath>>> {
    let problems: BTreeMap<&str, &Problem> = input.problems.iter().map(|p| (p.id.as_str(), p)).collect();
    let mut paths: Vec<(&Problem, &Sample)> = Vec::new();
    for sample in input.samples.iter().filter(|sample| sample.kept) {
        let problem = problems.get(sample.problem.as_str()).ok_or_else(|| {
            Error::unusable(format!(
                "{}: its question {} is not among the problems",
                sample.id, sample.problem
            ))
        })?;
        paths.push((problem, sample));
    }
    work::through(&target.plan(paths.len(), PIECE_PATHS), stop, progress, &|range: Range<usize>| {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        piece(input, &paths[range], progress)
    })
}

fn piece(
    input: &ScoreInput<'_>,
    paths: &[(&Problem, &Sample)],
    progress: &Progress,
) -> Result<Vec<Unit<ScoredPath>>> {
    let (mut places, mut layouts) = (Vec::new(), Vec::new());
    let mut units: Vec<Unit<ScoredPath>> =
        paths.iter().map(|_| Unit { rows: Vec::new(), tokens: 0 }).collect();
    let (mut steps_beyond, mut paths_beyond) = (0, 0);
    let left_out = |sample: &Sample, why: &str| progress.note(&format!("{} is left out: {why}", sample.id));
    for (place, (problem, sample)) in paths.iter().enumerate() {
        let steps = sample.step_texts()?;
        match per_row(input.reward.layout(problem, &steps).map_err(Error::from))? {
            Ok(pieces) => {
                let net = input.net;
                let mut laid = layout::of_pieces(net.tokenizer(), net.card(), &pieces, steps.len())
                    .map_err(|error| Error::unusable(format!("{}: {error}", sample.id)))?;
                let beyond = laid.truncate(net.context());
                steps_beyond += beyond;
                paths_beyond += usize::from(beyond > 0);
                places.push(place);
                layouts.push(laid);
            }
            Err(error) => left_out(sample, &error),
        }
    }
    if steps_beyond > 0 {
        progress.note(&format!(
            "{steps_beyond} steps of {paths_beyond} paths lie beyond the {} tokens that the reward model reads, and score 0",
            input.net.context()
        ));
    }
    for (place, mut scores) in places.into_iter().zip(input.net.score_layouts(&layouts)?) {
        let sample = paths[place].1;
        scores.resize(sample.steps.len(), 0.0);
        match per_row(input.reward.aggregate(&scores).map_err(Error::from))? {
            Ok(reward) => {
                let row = ScoredPath { sample: sample.id.clone(), scores, reward, ..ScoredPath::default() };
                units[place].rows.push(row);
            }
            Err(error) => left_out(sample, &error),
        }
    }
    Ok(units)
}
