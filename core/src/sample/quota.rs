//! How many distinct right and wrong paths to keep of a question.

use sipf_plugin::Domain;

/// Wanted of one question; drawing stops when both are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Distinct right paths.
    pub positives: usize,
    /// Distinct wrong paths.
    pub negatives: usize,
}

impl Quota {
    /// Every distinct path of all attempts.
    pub const ALL: Self = Self { positives: usize::MAX, negatives: usize::MAX };

    /// So many; 0 stands for all that come.
    pub fn of(positives: usize, negatives: usize) -> Self {
        let all = |count| if count == 0 { usize::MAX } else { count };
        Self { positives: all(positives), negatives: all(negatives) }
    }
}

/// The quota of a question's next round from what is kept of it already: half as many while there are few (below 8, for
/// programs below 40), then a quarter, and at least 1 (programs: 10). The authors' scripts; rounded down.
pub fn next(kept_right: usize, kept_wrong: usize, domain: Domain) -> Quota {
    let (few, least) = match domain {
        Domain::Code => (40, 10),
        _ => (8, 1),
    };
    let next = |kept: usize| (if kept < few { kept / 2 } else { kept / 4 }).max(least);
    Quota { positives: next(kept_right), negatives: next(kept_wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_rounds_grow_by_half_then_by_a_quarter() {
        let positives = |kept, domain| next(kept, 0, domain).positives;
        assert_eq!([0, 1, 4, 7, 8, 20].map(|kept| positives(kept, Domain::Math)), [1, 1, 2, 3, 2, 5]);
        assert_eq!([0, 25, 39, 40, 100].map(|kept| positives(kept, Domain::Code)), [10, 12, 19, 10, 25]);
        assert_eq!(next(4, 6, Domain::Math), Quota { positives: 2, negatives: 3 });
    }

    #[test]
    fn zero_stands_for_all() {
        assert_eq!(Quota::of(0, 4), Quota { positives: usize::MAX, negatives: 4 });
    }
}
