//! Controls: paths ranked by a model's own likelihood of their steps instead of by the trained reward model.
//!
//! An untrained head over log-probabilities is their weighted sum. Its scores get the trained model's scale by rank over
//! all steps of the pool, so that thresholds and margins mean the same and only the order differs.

use std::collections::BTreeMap;

use sipf_plugin::{Problem, Readout, RewardModel};

use crate::record::{Sample, ScoredPath};
use crate::reward::RewardNet;
use crate::{Error, Result};

/// The paths of `trained`, scored by `raw` and put on its scale.
///
/// # Errors
/// When the reward model does not read log-probabilities, or a layout does not fit.
pub(super) fn ranked(
    raw: &RewardNet,
    reward: &dyn RewardModel,
    problems: &[Problem],
    samples: &[Sample],
    trained: Vec<ScoredPath>,
) -> Result<Vec<ScoredPath>> {
    if !matches!(raw.card().readout, Readout::Classifier { with_logprobs: true, .. }) {
        return Err(Error::unusable(format!(
            "rank-by: {} reads no log-probabilities, so its untrained head ranks nothing; use prm-tiny",
            raw.card().name
        )));
    }
    let problems: BTreeMap<&str, &Problem> = problems.iter().map(|p| (p.id.as_str(), p)).collect();
    let samples: BTreeMap<&str, &Sample> = samples.iter().map(|s| (s.id.as_str(), s)).collect();
    let mut layouts = Vec::with_capacity(trained.len());
    for row in &trained {
        let sample = samples.get(row.sample.as_str());
        let problem = sample.and_then(|sample| problems.get(sample.problem.as_str()));
        let (Some(sample), Some(problem)) = (sample, problem) else {
            return Err(Error::unusable(format!("{}: scored, but no sample of this run", row.sample)));
        };
        let mut layout = raw.layout(reward, problem, &sample.step_texts()?)?;
        layout.truncate(raw.context());
        layouts.push(layout);
    }
    let mut scores = raw.score_layouts(&layouts)?;
    for (scores, row) in scores.iter_mut().zip(&trained) {
        scores.resize(row.scores.len(), 0.0);
    }
    let scale: Vec<Vec<f32>> = trained.iter().map(|row| row.scores.clone()).collect();
    let scores = by_rank(&scores, &scale);
    trained
        .into_iter()
        .zip(scores)
        .map(|(row, scores)| Ok(ScoredPath { reward: reward.aggregate(&scores)?, scores, ..row }))
        .collect()
}

/// The values of `scale`, in the order that `scores` say; equals keep the order of the paths.
fn by_rank(scores: &[Vec<f32>], scale: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut places: Vec<(usize, usize)> = scores
        .iter()
        .enumerate()
        .flat_map(|(path, scores)| (0..scores.len()).map(move |step| (path, step)))
        .collect();
    places.sort_by(|a, b| scores[a.0][a.1].total_cmp(&scores[b.0][b.1]));
    let mut values: Vec<f32> = scale.iter().flatten().copied().collect();
    values.sort_by(f32::total_cmp);
    let mut ranked: Vec<Vec<f32>> = scores.iter().map(|scores| vec![0.0; scores.len()]).collect();
    for ((path, step), value) in places.into_iter().zip(values) {
        ranked[path][step] = value;
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_scores_and_the_values_are_the_scales() {
        let ranked = by_rank(&[vec![5.0, -1.0], vec![2.0]], &[vec![0.9, 0.1], vec![0.5]]);
        assert_eq!(ranked, [vec![0.9, 0.1], vec![0.5]]);
        let ranked = by_rank(&[vec![-1.0, 5.0], vec![2.0]], &[vec![0.9, 0.1], vec![0.5]]);
        assert_eq!(ranked, [vec![0.1, 0.9], vec![0.5]]);
    }
}
