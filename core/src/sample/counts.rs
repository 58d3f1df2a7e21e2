//! What came of the attempts: the paper's Tables 6 and 7.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::record::Sample;

/// Counts over samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleCounts {
    /// Questions with at least one attempt.
    pub questions: usize,
    /// Attempts that count.
    pub attempts: usize,
    /// Of these, right ones.
    pub right: usize,
    /// Right ones that are kept.
    pub kept_right: usize,
    /// Wrong ones that are kept.
    pub kept_wrong: usize,
    /// Left out as duplicates.
    pub duplicates: usize,
    /// Left out because the quota was met.
    pub over_quota: usize,
    /// Left out because a plugin failed on them.
    pub failed: usize,
    /// Left out because there was no verdict.
    pub no_verdict: usize,
    /// Left out for what their signature says, such as a false equation.
    pub flawed: usize,
    /// Questions without a right path that is kept.
    pub without_right: usize,
    /// Tokens of all attempts that count.
    pub tokens: u64,
}

impl SampleCounts {
    /// Counts these samples.
    pub fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let mut counts = Self::default();
        let (mut asked, mut solved) = (BTreeSet::new(), BTreeSet::new());
        for sample in samples {
            asked.insert(&sample.problem);
            counts.attempts += 1;
            counts.right += usize::from(sample.passed);
            counts.tokens += sample.tokens;
            match (&sample.dropped_because, sample.passed) {
                _ if sample.kept => {
                    let side = if sample.passed { &mut counts.kept_right } else { &mut counts.kept_wrong };
                    *side += 1;
                    if sample.passed {
                        solved.insert(&sample.problem);
                    }
                }
                (Some(why), _) if why == "quota" => counts.over_quota += 1,
                (Some(why), _) if why.starts_with("duplicate of ") => counts.duplicates += 1,
                (Some(why), _) if why.starts_with("failed: ") => counts.failed += 1,
                (Some(why), _) if why.starts_with("no verdict: ") => counts.no_verdict += 1,
                _ => counts.flawed += 1,
            }
        }
        counts.questions = asked.len();
        counts.without_right = asked.len() - solved.len();
        counts
    }
}
