//! Which slots of the cache are free. Slots come in blocks of sixteen; a sequence keeps to its own blocks while it can.

use std::collections::BTreeSet;

use super::lanes::WIDTH;

/// Free slots below a fixed capacity.
#[derive(Debug)]
pub(super) struct Slots {
    capacity: usize,
    /// A bit for every free slot of a block.
    free: Vec<u16>,
    /// Blocks with nothing in them; the last is taken first.
    empty: Vec<u32>,
    /// Blocks with something in them and room left.
    partial: BTreeSet<u32>,
    used: usize,
}

impl Slots {
    /// `capacity` is rounded down to whole blocks.
    pub(super) fn new(capacity: usize) -> Self {
        let blocks = capacity / WIDTH;
        Self {
            capacity: blocks * WIDTH,
            free: vec![u16::MAX; blocks],
            empty: (0..blocks as u32).rev().collect(),
            partial: BTreeSet::new(),
            used: 0,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// A slot: the one after `before` if it is free and in the same block, else one of an empty block, else any.
    pub(super) fn take(&mut self, before: Option<u32>) -> Option<u32> {
        if let Some(before) = before {
            let next = before + 1;
            if !(next as usize).is_multiple_of(WIDTH) && self.is_free(next) {
                return Some(self.mark(next));
            }
        }
        if let Some(block) = self.empty.last() {
            return Some(self.mark(block * WIDTH as u32));
        }
        let block = *self.partial.first()?;
        Some(self.mark(block * WIDTH as u32 + self.free[block as usize].trailing_zeros()))
    }

    fn is_free(&self, slot: u32) -> bool {
        self.free[slot as usize / WIDTH] & (1 << (slot as usize % WIDTH)) != 0
    }

    fn mark(&mut self, slot: u32) -> u32 {
        let block = slot as usize / WIDTH;
        if self.free[block] == u16::MAX {
            // Only the top of the stack is ever taken while it is empty.
            self.empty.pop();
            self.partial.insert(block as u32);
        }
        self.free[block] &= !(1 << (slot as usize % WIDTH));
        if self.free[block] == 0 {
            self.partial.remove(&(block as u32));
        }
        self.used += 1;
        slot
    }

    pub(super) fn give_back(&mut self, slot: u32) {
        let block = slot as usize / WIDTH;
        if self.free[block] == 0 {
            self.partial.insert(block as u32);
        }
        self.free[block] |= 1 << (slot as usize % WIDTH);
        if self.free[block] == u16::MAX {
            self.partial.remove(&(block as u32));
            self.empty.push(block as u32);
        }
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_handed_out_once_and_comes_back() {
        let mut slots = Slots::new(40);
        assert_eq!(slots.capacity(), 32);
        let mut taken: Vec<u32> = std::iter::from_fn(|| slots.take(None)).collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..32).collect::<Vec<_>>());
        for slot in [3, 17, 4] {
            slots.give_back(slot);
        }
        assert_eq!(slots.take(Some(3)), Some(4), "the neighbour first");
        assert_eq!(slots.take(Some(16)), Some(17));
        assert_eq!(slots.take(Some(20)), Some(3), "any other slot rather than none");
        assert_eq!(slots.take(None), None);
        assert_eq!(slots.used(), 32);
    }

    #[test]
    fn a_fork_starts_in_a_block_of_its_own() {
        let mut slots = Slots::new(64);
        let first = slots.take(None);
        let child = slots.take(first);
        let fork = slots.take(first);
        assert_eq!((first, child, fork), (Some(0), Some(1), Some(16)));
    }
}
