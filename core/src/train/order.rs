//! Which rows each optimizer step takes: a function of seed and step, never of what ran before.

use sipf_plugin::random::Stream;

use crate::stream::StreamName;

/// The order of rows, an epoch at a time.
pub(super) struct Order {
    rows: usize,
    step_rows: usize,
    shuffle: Option<u64>,
    epoch: Option<(usize, Vec<usize>)>,
}

impl Order {
    /// `shuffle` is the seed; `None`: file order.
    pub(super) fn new(rows: usize, step_rows: usize, shuffle: Option<u64>) -> Self {
        Self { rows, step_rows, shuffle, epoch: None }
    }

    pub(super) fn steps_per_epoch(&self) -> usize {
        self.rows.div_ceil(self.step_rows).max(1)
    }

    /// The rows of this optimizer step; the last step of an epoch may have fewer.
    pub(super) fn step(&mut self, step: usize) -> Vec<usize> {
        let (number, place) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        if self.epoch.as_ref().is_none_or(|(known, _)| *known != number) {
            let mut order: Vec<usize> = (0..self.rows).collect();
            if let Some(seed) = self.shuffle {
                let name =
                    StreamName { seed, stage: "shuffle", iteration: number as u64, ..StreamName::default() };
                Stream::new(name.key()).shuffle(&mut order);
            }
            self.epoch = Some((number, order));
        }
        let order = self.epoch.as_ref().map_or(&[][..], |(_, order)| order);
        order.iter().copied().skip(place * self.step_rows).take(self.step_rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_takes_every_row_once_and_steps_can_be_asked_in_any_order() {
        let mut order = Order::new(10, 4, Some(1));
        assert_eq!(order.steps_per_epoch(), 3);
        let mut first: Vec<usize> = (0..3).flat_map(|step| order.step(step)).collect();
        let later = order.step(4);
        assert_eq!(Order::new(10, 4, Some(1)).step(4), later);
        assert_eq!(order.step(2).len(), 2);
        assert_ne!(order.step(0), order.step(3));
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        assert_eq!(Order::new(5, 2, None).step(1), [2, 3]);
    }
}
