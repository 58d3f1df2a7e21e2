//! The few statistics that the report computes itself: ranking and calibration.

/// Area under the ROC curve: how often a right step scores above a wrong one, ties half. `None` without both kinds.
pub(super) fn auc(scored: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let right = sorted.iter().filter(|(_, label)| *label).count();
    let wrong = sorted.len() - right;
    if right == 0 || wrong == 0 {
        return None;
    }
    let (mut below, mut wins, mut start) = (0usize, 0.0, 0);
    while start < sorted.len() {
        let end = start + sorted[start..].iter().take_while(|(score, _)| *score == sorted[start].0).count();
        let good = sorted[start..end].iter().filter(|(_, label)| *label).count();
        let bad = end - start - good;
        wins += good as f64 * (below as f64 + bad as f64 / 2.0);
        below += bad;
        start = end;
    }
    Some(wins / (right as f64 * wrong as f64))
}

/// One bin of a calibration curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bin {
    /// Mean score.
    pub(super) score: f64,
    /// Share of right steps.
    pub(super) right: f64,
    /// Steps in it.
    pub(super) count: usize,
}

/// Ten equal bins of scores against labels; empty ones left out.
pub(super) fn calibration(scored: &[(f64, bool)]) -> Vec<Bin> {
    let mut bins = [(0.0, 0usize, 0usize); 10];
    for (score, label) in scored {
        let bin = &mut bins[((score * 10.0) as usize).min(9)];
        *bin = (bin.0 + score, bin.1 + usize::from(*label), bin.2 + 1);
    }
    let filled = bins.into_iter().filter(|(.., count)| *count > 0);
    filled
        .map(|(sum, right, count)| Bin {
            score: sum / count as f64,
            right: right as f64 / count as f64,
            count,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranking_counts_ties_half() {
        assert_eq!(auc(&[(0.9, true), (0.1, false)]), Some(1.0));
        assert_eq!(auc(&[(0.5, true), (0.5, false)]), Some(0.5));
        assert_eq!(auc(&[(0.2, true), (0.8, false), (0.9, true)]), Some(0.5));
        assert_eq!(auc(&[(0.2, true)]), None);
    }

    #[test]
    fn calibration_bins_keep_every_step() {
        let bins = calibration(&[(0.0, false), (0.05, true), (1.0, true)]);
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<usize>(), 3);
        assert_eq!(bins[0].right, 0.5);
    }
}
