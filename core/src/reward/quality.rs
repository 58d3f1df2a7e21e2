//! How good step scores are: against step truths, within questions, as probabilities, and on ProcessBench.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bins of the calibration error.
const BINS: usize = 10;

/// The area under the ROC curve: how often a right step scores above a wrong one, ties half; `None` without both.
pub fn auc(scores: &[f32], truths: &[bool]) -> Option<f64> {
    let right = truths.iter().filter(|truth| **truth).count();
    let wrong = truths.len() - right;
    if right == 0 || wrong == 0 {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len().min(truths.len())).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let mut rank_sum = 0.0;
    let mut from = 0;
    while from < order.len() {
        let mut to = from;
        while to < order.len() && scores[order[to]] == scores[order[from]] {
            to += 1;
        }
        // Tied scores share the mean of their ranks.
        let rank = (from + to + 1) as f64 / 2.0;
        rank_sum += rank * order[from..to].iter().filter(|place| truths[**place]).count() as f64;
        from = to;
    }
    Some((rank_sum - (right * (right + 1)) as f64 / 2.0) / (right as f64 * wrong as f64))
}

/// Expected calibration error over ten equal bins of the score.
pub fn calibration_error(scores: &[f32], truths: &[bool]) -> f64 {
    let mut bins = [(0.0_f64, 0.0_f64, 0.0_f64); BINS];
    for (score, truth) in scores.iter().zip(truths) {
        let bin = &mut bins[((score * BINS as f32) as usize).min(BINS - 1)];
        *bin = (bin.0 + f64::from(*score), bin.1 + f64::from(u8::from(*truth)), bin.2 + 1.0);
    }
    let error: f64 = bins.iter().filter(|bin| bin.2 > 0.0).map(|bin| (bin.0 - bin.1).abs()).sum();
    error / scores.len().max(1) as f64
}

/// A scored path of a question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoredTruth {
    /// The question.
    pub problem: String,
    /// A score for each step.
    pub scores: Vec<f32>,
    /// What is true of each step.
    pub truths: Vec<bool>,
    /// The path's reward.
    pub reward: f32,
}

/// Figures over scored paths whose steps are known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepQuality {
    /// Paths.
    pub paths: usize,
    /// Steps.
    pub steps: usize,
    /// Share of right steps: what always saying "right" would reach.
    pub right_share: f64,
    /// Share of steps on the right side of one half.
    pub step_accuracy: f64,
    /// Mean over paths of a path's step accuracy (the paper's Table 3).
    pub path_accuracy: f64,
    /// Area under the ROC curve over all steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// How often, within a question, a wholly right path has the larger reward than another; ties half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairwise: Option<f64>,
    /// Expected calibration error, ten bins.
    pub calibration_error: f64,
}

/// Compares scores with truths.
pub fn step_quality(paths: &[ScoredTruth]) -> StepQuality {
    let scores: Vec<f32> = paths.iter().flat_map(|path| path.scores.iter().copied()).collect();
    let truths: Vec<bool> = paths.iter().flat_map(|path| path.truths.iter().copied()).collect();
    let agree = |scores: &[f32], truths: &[bool]| {
        let right = scores.iter().zip(truths).filter(|(score, truth)| (**score > 0.5) == **truth).count();
        right as f64 / scores.len().max(1) as f64
    };
    let with_steps: Vec<&ScoredTruth> = paths.iter().filter(|path| !path.scores.is_empty()).collect();
    let path_accuracy: f64 = with_steps.iter().map(|path| agree(&path.scores, &path.truths)).sum();
    StepQuality {
        paths: paths.len(),
        steps: scores.len(),
        right_share: truths.iter().filter(|truth| **truth).count() as f64 / truths.len().max(1) as f64,
        step_accuracy: agree(&scores, &truths),
        path_accuracy: path_accuracy / with_steps.len().max(1) as f64,
        auc: auc(&scores, &truths),
        pairwise: pairwise(paths),
        calibration_error: calibration_error(&scores, &truths),
    }
}

/// Within-question ranking of wholly right paths against the others; `None` where no question has both.
pub fn pairwise(paths: &[ScoredTruth]) -> Option<f64> {
    let mut questions: BTreeMap<&str, (Vec<f32>, Vec<f32>)> = BTreeMap::new();
    for path in paths {
        let (right, wrong) = questions.entry(&path.problem).or_default();
        let whole = !path.truths.is_empty() && path.truths.iter().all(|truth| *truth);
        if whole { right.push(path.reward) } else { wrong.push(path.reward) }
    }
    let (mut won, mut pairs) = (0.0, 0usize);
    for (right, wrong) in questions.values() {
        for a in right {
            for b in wrong {
                won += if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                };
                pairs += 1;
            }
        }
    }
    (pairs > 0).then(|| won / pairs as f64)
}

/// ProcessBench's figures: accuracy on wrong rows, on right rows, and their harmonic mean.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessBench {
    /// Rows with a wrong step; the first one must be found exactly.
    pub wrong_rows: usize,
    /// Rows without a wrong step.
    pub right_rows: usize,
    /// Accuracy on rows with a wrong step.
    pub wrong_accuracy: f64,
    /// Accuracy on rows without.
    pub right_accuracy: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

/// `rows`: (first wrong step or none, predicted first wrong step or none).
pub fn process_bench(rows: &[(Option<usize>, Option<usize>)]) -> ProcessBench {
    let share = |wanted: bool| {
        let of: Vec<_> = rows.iter().filter(|(truth, _)| truth.is_some() == wanted).collect();
        let hit = of.iter().filter(|(truth, guess)| truth == guess).count();
        (of.len(), hit as f64 / of.len().max(1) as f64)
    };
    let ((wrong_rows, wrong_accuracy), (right_rows, right_accuracy)) = (share(true), share(false));
    let sum = wrong_accuracy + right_accuracy;
    let f1 = if sum > 0.0 { 2.0 * wrong_accuracy * right_accuracy / sum } else { 0.0 };
    ProcessBench { wrong_rows, right_rows, wrong_accuracy, right_accuracy, f1 }
}

/// The first step whose score is below the threshold.
pub fn first_below(scores: &[f32], threshold: f32) -> Option<usize> {
    scores.iter().position(|score| *score < threshold)
}

/// The trivial guessers' figures: never wrong, always the first step, always the last, and the best that one constant
/// chance of "no wrong step" with a uniformly drawn step reaches in expectation. `rows`: truth and number of steps.
pub fn trivial_baselines(rows: &[(Option<usize>, usize)]) -> BTreeMap<String, f64> {
    let f1 = |guess: &dyn Fn(usize) -> Option<usize>| {
        let rows: Vec<_> = rows.iter().map(|(truth, steps)| (*truth, guess(*steps))).collect();
        process_bench(&rows).f1
    };
    let wrong: Vec<f64> = rows
        .iter()
        .filter(|(truth, _)| truth.is_some())
        .map(|(_, steps)| 1.0 / (*steps).max(1) as f64)
        .collect();
    let uniform = wrong.iter().sum::<f64>() / wrong.len().max(1) as f64;
    // Says "no wrong step" with chance p: right rows p, wrong rows (1 - p) * uniform.
    let mixed = (0..=100)
        .map(|p| f64::from(p) / 100.0)
        .map(|p| {
            let (right, wrong) = (p, (1.0 - p) * uniform);
            if right + wrong > 0.0 { 2.0 * right * wrong / (right + wrong) } else { 0.0 }
        })
        .fold(0.0, f64::max);
    BTreeMap::from([
        ("always_right".to_owned(), f1(&|_| None)),
        ("always_first".to_owned(), f1(&|steps| (steps > 0).then_some(0))),
        ("always_last".to_owned(), f1(&|steps| steps.checked_sub(1))),
        ("random".to_owned(), mixed),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_pairs_and_halves_ties() {
        assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75));
        assert_eq!(auc(&[0.5, 0.5], &[true, false]), Some(0.5));
        assert_eq!(auc(&[0.5], &[true]), None);
    }

    #[test]
    fn perfect_and_useless_scores() {
        let path = |problem: &str, scores: &[f32], truths: &[bool]| ScoredTruth {
            problem: problem.into(),
            scores: scores.to_vec(),
            truths: truths.to_vec(),
            reward: scores.iter().sum::<f32>() / scores.len() as f32,
        };
        let perfect =
            step_quality(&[path("a", &[1.0, 1.0], &[true, true]), path("a", &[1.0, 0.0], &[true, false])]);
        assert_eq!((perfect.auc, perfect.pairwise, perfect.step_accuracy), (Some(1.0), Some(1.0), 1.0));
        assert_eq!(perfect.calibration_error, 0.0);
        let useless =
            step_quality(&[path("a", &[0.6, 0.6], &[true, true]), path("b", &[0.6, 0.6], &[true, false])]);
        assert_eq!((useless.auc, useless.pairwise), (Some(0.5), None));
        assert!((useless.calibration_error - 0.15).abs() < 1e-6, "{useless:?}");
    }

    #[test]
    fn process_bench_is_the_harmonic_mean() {
        let figures = process_bench(&[(Some(1), Some(1)), (Some(2), Some(0)), (None, None), (None, None)]);
        assert_eq!((figures.wrong_accuracy, figures.right_accuracy), (0.5, 1.0));
        assert!((figures.f1 - 2.0 / 3.0).abs() < 1e-12);
        let trivial = trivial_baselines(&[(Some(0), 2), (None, 2)]);
        assert_eq!((trivial["always_right"], trivial["always_first"]), (0.0, 0.0));
        assert!(trivial["random"] > 0.2);
        assert_eq!(first_below(&[0.9, 0.4, 0.1], 0.5), Some(1));
    }
}
