//! What a count of right rollouts says about the rate behind it.

/// Probability outside the interval, half on each side.
const OUTSIDE: f64 = 0.05;

/// The central 95 % interval of the success rate after `right` of `tried` rollouts, under a uniform prior: quantiles of
/// Beta(right + 1, wrong + 1), to four digits.
///
/// Rollouts that stop once a label is decided are a stopped sample, but its likelihood is the same function of the rate
/// up to a factor, so the posterior is too.
pub fn posterior(right: u32, tried: u32) -> (f64, f64) {
    let wrong = tried.saturating_sub(right);
    let low = quantile(right, wrong, OUTSIDE / 2.0);
    (low, quantile(right, wrong, 1.0 - OUTSIDE / 2.0))
}

fn quantile(right: u32, wrong: u32, probability: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if cumulative(right, wrong, middle) < probability { low = middle } else { high = middle }
    }
    (high * 1e4).round() / 1e4
}

/// The distribution function of Beta(right + 1, wrong + 1): with whole parameters it is the chance of more than `right`
/// successes in `right + wrong + 1` trials.
fn cumulative(right: u32, wrong: u32, rate: f64) -> f64 {
    if rate <= 0.0 || rate >= 1.0 {
        return rate.clamp(0.0, 1.0);
    }
    let trials = f64::from(right) + f64::from(wrong) + 1.0;
    let odds = rate.ln() - (1.0 - rate).ln();
    // The logarithm of the chance of exactly n successes, from one n to the next.
    let mut exactly = trials * (1.0 - rate).ln();
    let mut total = 0.0;
    for n in 0..=right + wrong {
        exactly += ((trials - f64::from(n)) / f64::from(n + 1)).ln() + odds;
        if n >= right {
            total += exactly.exp();
        }
    }
    total.min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_rollouts_the_prior_is_left() {
        assert_eq!(posterior(0, 0), (0.025, 0.975));
    }

    #[test]
    fn all_wrong_and_all_right_have_closed_forms() {
        for tried in [1u32, 3, 8, 100] {
            // Beta(1, n + 1) has the distribution function 1 - (1 - x)^(n + 1).
            let power = 1.0 / (f64::from(tried) + 1.0);
            let (low, high) = posterior(0, tried);
            assert!((low - (1.0 - 0.975f64.powf(power))).abs() < 6e-5, "{tried}: {low}");
            assert!((high - (1.0 - 0.025f64.powf(power))).abs() < 6e-5, "{tried}: {high}");
        }
    }

    #[test]
    fn beta_2_2_is_three_squares_less_two_cubes() {
        for x in [0.1f64, 0.37, 0.5, 0.9] {
            assert!((cumulative(1, 1, x) - (3.0 * x * x - 2.0 * x.powi(3))).abs() < 1e-12);
        }
    }

    proptest! {
        #[test]
        fn right_and_wrong_mirror_each_other_and_the_rate_lies_inside(tried in 1u32..64, share in 0.0f64..=1.0) {
            let right = (f64::from(tried) * share) as u32;
            let (low, high) = posterior(right, tried);
            let (other_low, other_high) = posterior(tried - right, tried);
            prop_assert!((low + other_high - 1.0).abs() < 2e-4 && (high + other_low - 1.0).abs() < 2e-4);
            let mean = (f64::from(right) + 1.0) / (f64::from(tried) + 2.0);
            prop_assert!(low < mean && mean < high);
        }
    }
}
