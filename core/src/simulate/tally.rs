//! The rollouts of one step, and when they have decided its label (Eq. 2).
//!
//! Rollouts are numbered and taken in the order of their numbers. The label is decided by the first one after which no
//! other outcome of the rest could change it, so the early label is the label of all K.

use sipf_plugin::Step;

use super::interval;
use super::settings::SimulateSettings;
use crate::record::{Label, LabelledStep};

/// What is known of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    rollouts: u32,
    threshold: u32,
    runs_all: bool,
    /// The number of the next rollout.
    next: u32,
    /// Rollouts with a verdict.
    tried: u32,
    right: u32,
}

impl Tally {
    pub(super) fn new(settings: &SimulateSettings) -> Self {
        let (rollouts, threshold) = (settings.rollouts, settings.threshold);
        Self { rollouts, threshold, runs_all: settings.runs_all(), next: 0, tried: 0, right: 0 }
    }

    /// The numbers of the rollouts to run next: as many as are needed whatever they give.
    pub(super) fn next(&self) -> std::ops::Range<u32> {
        let left = self.rollouts - self.next;
        let count = match self.runs_all {
            true => left,
            false => {
                let for_right = (self.threshold + 1).saturating_sub(self.right);
                // More wrong ones than this, and the threshold is out of reach.
                let for_wrong = (left + self.right).saturating_sub(self.threshold);
                for_right.min(for_wrong).min(left)
            }
        };
        self.next..self.next + count
    }

    /// Takes the next rollout; `None`: there was no verdict, so it counts neither way.
    pub(super) fn take(&mut self, passed: Option<bool>) {
        self.next += 1;
        self.tried += u32::from(passed.is_some());
        self.right += u32::from(passed == Some(true));
    }

    /// Whether there was any verdict at all.
    pub(super) fn is_known(&self) -> bool {
        self.tried > 0
    }

    /// The label: soft where asked, else whether more than the threshold were right.
    pub(super) fn label(&self, soft: bool) -> Label {
        match soft {
            true => Label::Soft(self.right as f32 / self.tried.max(1) as f32),
            false => Label::Hard(self.right > self.threshold),
        }
    }

    /// The record of a step of this chunk.
    pub(super) fn step(&self, step: &Step, soft: bool) -> LabelledStep {
        let (low, high) = interval::posterior(self.right, self.tried);
        let Step { start, end, chunk } = *step;
        let label = self.label(soft).value();
        LabelledStep { start, end, chunk, tried: self.tried, right: self.right, label, low, high }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(rollouts: u32, threshold: u32, full_counts: bool) -> Tally {
        Tally::new(&SimulateSettings { rollouts, threshold, full_counts, ..SimulateSettings::default() })
    }

    /// Runs rollouts with these outcomes until nothing more is wanted.
    fn run(mut tally: Tally, outcomes: &[Option<bool>]) -> Tally {
        while !tally.next().is_empty() {
            for number in tally.next() {
                tally.take(outcomes[number as usize]);
            }
        }
        tally
    }

    #[test]
    fn tried_is_the_number_of_the_deciding_rollout_plus_one() {
        let outcomes = [false, false, true, false, true, false, false, false].map(Some);
        let early = run(tally(8, 0, false), &outcomes);
        assert_eq!((early.tried, early.right, early.label(false)), (3, 1, Label::Hard(true)));
        let full = run(tally(8, 0, true), &outcomes);
        assert_eq!((full.tried, full.right, full.label(true)), (8, 2, Label::Soft(0.25)));
        let never = run(tally(8, 0, false), &[Some(false); 8]);
        assert_eq!((never.tried, never.label(false)), (8, Label::Hard(false)));
        // Above 2 of 4 is out of reach after two wrong ones.
        let lost = run(tally(4, 2, false), &[Some(true), Some(false), Some(false), Some(true)]);
        assert_eq!((lost.tried, lost.label(false)), (3, Label::Hard(false)));
    }

    #[test]
    fn a_rollout_without_a_verdict_counts_neither_way() {
        let outcomes = [None, Some(false), None, Some(true)];
        let known = run(tally(4, 0, false), &outcomes);
        assert_eq!((known.tried, known.right, known.label(false)), (2, 1, Label::Hard(true)));
        assert!(!run(tally(2, 0, false), &[None, None]).is_known());
    }

    proptest! {
        #[test]
        fn early_labels_are_the_labels_of_all_rollouts(
            outcomes in prop::collection::vec(prop::option::weighted(0.9, any::<bool>()), 12),
            rollouts in 1u32..=12,
            threshold in 0u32..12,
        ) {
            prop_assume!(threshold < rollouts);
            let early = run(tally(rollouts, threshold, false), &outcomes);
            let full = run(tally(rollouts, threshold, true), &outcomes);
            prop_assert_eq!(early.label(false), full.label(false));
            prop_assert!(early.next <= full.next);
            // Nothing after the deciding rollout was run: without the last one the label was open.
            let before = &outcomes[..early.next as usize - 1];
            let right = before.iter().filter(|passed| **passed == Some(true)).count() as u32;
            let left = rollouts - before.len() as u32;
            prop_assert!(right <= threshold && right + left > threshold);
        }
    }
}
