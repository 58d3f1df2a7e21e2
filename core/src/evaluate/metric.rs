//! The statistics of an evaluation: shares and means with their errors, pass@k, paired tests. Plain numbers in, plain
//! numbers out; every formula is in the tests against a closed form and against scipy's and statsmodels' numbers.

/// Normal quantile of a 95 % interval.
pub const Z95: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a share `p` over `n` trials.
pub fn wilson(p: f64, n: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let z2 = Z95 * Z95;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).max(0.0).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// McNemar's exact two-sided p for `gained` and `lost` discordant pairs: a binomial test of one half.
pub fn mcnemar(gained: usize, lost: usize) -> f64 {
    let (n, least) = (gained + lost, gained.min(lost));
    if n == 0 {
        return 1.0;
    }
    // Sum of binomial(n, i) / 2^n for i = 0..=least, in logarithms.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for i in 1..=least {
        log_term += ((n - i + 1) as f64).ln() - (i as f64).ln();
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// Unbiased pass@k of one problem (Chen et al., 2021): the chance that one of `k` completions drawn without
/// replacement from `n`, of which `right` are right, is right. `None` where `n < k`.
pub fn pass_at_k(n: usize, right: usize, k: usize) -> Option<f64> {
    if k == 0 || n < k || right > n {
        return None;
    }
    if n - right < k {
        return Some(1.0);
    }
    let all_wrong: f64 = (n - right + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - all_wrong)
}

/// Mean pass@k over problems given as `(n, right)`; `None` unless every one has at least `k` completions.
pub fn mean_pass_at_k(problems: &[(usize, usize)], k: usize) -> Option<f64> {
    if problems.is_empty() {
        return None;
    }
    let each: Option<Vec<f64>> = problems.iter().map(|(n, right)| pass_at_k(*n, *right, k)).collect();
    Some(each?.iter().sum::<f64>() / problems.len() as f64)
}

/// A mean and its standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mean {
    /// The mean over all values.
    pub value: f64,
    /// Its standard error over clusters; 0 where there are fewer than two.
    pub error: f64,
    /// Clusters.
    pub clusters: usize,
}

/// Mean of values that come in clusters (the samples of a problem, the prompts of a row): all values weigh the same,
/// clusters are what varies. With one value a cluster the error is the usual `sd / sqrt(n)`. `None` without values.
pub fn clustered<'a>(clusters: impl IntoIterator<Item = &'a [f64]>) -> Option<Mean> {
    let sums: Vec<(f64, f64)> = clusters
        .into_iter()
        .filter(|values| !values.is_empty())
        .map(|values| (values.iter().sum(), values.len() as f64))
        .collect();
    if sums.is_empty() {
        return None;
    }
    let count: f64 = sums.iter().map(|(_, n)| n).sum();
    let value = sums.iter().map(|(sum, _)| sum).sum::<f64>() / count;
    let squares: f64 = sums.iter().map(|(sum, n)| (sum - n * value).powi(2)).sum();
    let clusters = sums.len() as f64;
    let error = match sums.len() {
        1 => 0.0,
        _ => (clusters / (clusters - 1.0) * squares).sqrt() / count,
    };
    Some(Mean { value, error, clusters: sums.len() })
}

impl Mean {
    /// The 95 % interval of a share by the normal approximation, kept within 0 and 1; Wilson's over clusters where none
    /// differs from the others, as where nothing was right: that says little, not everything.
    pub fn interval(self) -> (f64, f64) {
        if self.error == 0.0 {
            return wilson(self.value, self.clusters as f64);
        }
        ((self.value - Z95 * self.error).max(0.0), (self.value + Z95 * self.error).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// `tests/golden/evaluate/make.py` wrote it.
    fn golden() -> Value {
        serde_json::from_str(include_str!("../../../tests/golden/evaluate/golden.json")).expect("JSON")
    }

    fn close(found: f64, expected: &Value, what: &str) {
        let expected = expected.as_f64().expect("a number");
        let off = (found - expected).abs() / expected.abs().max(1e-300);
        assert!(off < 1e-9 || (found - expected).abs() < 1e-12, "{what}: {found} is not {expected}");
    }

    fn rows(golden: &Value, name: &str) -> Vec<Value> {
        golden[name].as_array().expect("rows").clone()
    }

    fn whole(row: &Value, key: &str) -> usize {
        row[key].as_u64().expect("a whole number") as usize
    }

    #[test]
    fn wilson_mcnemar_pass_at_k_and_clustered_errors_agree_with_the_references() {
        let golden = golden();
        for row in rows(&golden, "wilson") {
            let n = whole(&row, "n") as f64;
            let (low, high) = wilson(whole(&row, "right") as f64 / n, n);
            close(low, &row["low"], &row.to_string());
            close(high, &row["high"], &row.to_string());
        }
        for row in rows(&golden, "mcnemar") {
            close(mcnemar(whole(&row, "gained"), whole(&row, "lost")), &row["p"], &row.to_string());
        }
        for row in rows(&golden, "pass_at_k") {
            let found = pass_at_k(whole(&row, "n"), whole(&row, "right"), whole(&row, "k")).expect("n >= k");
            close(found, &row["value"], &row.to_string());
        }
        for row in rows(&golden, "clustered") {
            let clusters: Vec<Vec<f64>> = serde_json::from_value(row["clusters"].clone()).expect("numbers");
            let mean = clustered(clusters.iter().map(Vec::as_slice)).expect("values");
            close(mean.value, &row["mean"], "mean");
            close(mean.error, &row["error"], "error");
        }
    }

    #[test]
    fn intervals_and_tests_have_their_closed_forms() {
        let (low, high) = wilson(0.0, 10.0);
        let z2 = Z95 * Z95;
        assert!(low == 0.0 && (high - z2 / (10.0 + z2)).abs() < 1e-12);
        assert_eq!(wilson(0.0, 0.0), (0.0, 1.0));
        // 2 (1 + 10) / 2^10.
        assert!((mcnemar(9, 1) - 22.0 / 1024.0).abs() < 1e-12);
        assert_eq!((mcnemar(5, 5), mcnemar(0, 0)), (1.0, 1.0));
        assert!(mcnemar(2000, 1000) < 1e-70);
    }

    #[test]
    fn pass_at_k_is_the_share_of_draws_with_a_right_one() {
        assert_eq!(pass_at_k(4, 1, 1), Some(0.25));
        assert_eq!(pass_at_k(4, 1, 4), Some(1.0));
        assert_eq!((pass_at_k(4, 0, 4), pass_at_k(3, 1, 4)), (Some(0.0), None));
        for n in 1..7_usize {
            for right in 0..=n {
                for k in 1..=n {
                    // Every set of k out of n, the first `right` ones right.
                    let sets = (0_u32..1 << n).filter(|set| set.count_ones() as usize == k);
                    let (mut all, mut hit) = (0.0, 0.0);
                    for set in sets {
                        all += 1.0;
                        hit += f64::from(u8::from(set & ((1 << right) - 1) != 0));
                    }
                    let found = pass_at_k(n, right, k).expect("n >= k");
                    assert!((found - hit / all).abs() < 1e-12, "{n} {right} {k}");
                }
            }
        }
    }

    #[test]
    fn a_k_is_reported_only_when_every_problem_has_so_many() {
        assert_eq!(mean_pass_at_k(&[(4, 4), (4, 0)], 4), Some(0.5));
        assert_eq!(mean_pass_at_k(&[(4, 4), (3, 0)], 4), None);
        assert_eq!(mean_pass_at_k(&[], 1), None);
    }

    #[test]
    fn copies_of_a_value_within_a_cluster_add_no_certainty() {
        let apart = clustered([[0.0].as_slice(), &[1.0], &[1.0], &[0.0]]).expect("a mean");
        let copied = clustered([[0.0; 5].as_slice(), &[1.0; 5], &[1.0; 5], &[0.0; 5]]).expect("a mean");
        assert!((apart.error - copied.error).abs() < 1e-12 && apart.value == copied.value);
        // sd of 0 0 1 1 is sqrt(1/3), over sqrt(4).
        assert!((apart.error - (1.0_f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
        let none_right = clustered([[0.0].as_slice(), &[0.0], &[0.0]]).expect("values").interval();
        assert_eq!(none_right, wilson(0.0, 3.0), "three wrong problems do not show that all are");
        assert_eq!(clustered([[0.25].as_slice()]), Some(Mean { value: 0.25, error: 0.0, clusters: 1 }));
        assert_eq!(clustered(std::iter::empty::<&[f64]>()), None);
    }
}
