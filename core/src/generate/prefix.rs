//! The tree of prefixes: a node is a token after a certain past, and owns the slot of the cache of the same number.
//!
//! Two requests that begin alike share nodes as far as they agree, so no token is computed twice: not for the samples
//! of one prompt, not for rollouts from several steps of one path, not for two sequences that happen to draw the same
//! token in the same step. A node stays while a running sequence passes through it; after that it may be forgotten,
//! least recently used first, leaves before what they grow on.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::slots::Slots;

/// The parent of first tokens. Without sharing every sequence has a root of its own, counting down from here.
pub(super) const ROOT: u32 = u32::MAX;

/// Forgotten prefixes beyond this many are no longer recognised when they come back (it only affects a count).
const REMEMBERED: usize = 1 << 18;

/// So many tokens that no sequence uses are kept at least, and [`IDLE_SHARE`] times as many as were ever in use at once.
/// More would seldom be met again, and writing over memory in use is much cheaper than touching fresh pages.
const IDLE: usize = 1 << 14;
const IDLE_SHARE: usize = 3;

#[derive(Debug, Clone, Copy, Default)]
struct Node {
    token: u32,
    parent: u32,
    children: u32,
    /// Running sequences that pass through it.
    active: u32,
    /// When it was last given up by a sequence.
    stamp: u64,
    /// Of the whole past.
    hash: u64,
    state: State,
}

/// Whether a node's keys, values and hidden state are in the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Missing,
    /// It is a row of the step that is being built.
    Scheduled,
    Ready,
}

/// Multiply and mix: keys are small numbers, and nobody chooses them with ill intent.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// All prefixes that the cache holds.
#[derive(Debug)]
pub(super) struct Tree {
    /// By slot; grows with the highest one in use.
    nodes: Vec<Node>,
    slots: Slots,
    /// Never iterated, so its order does not matter.
    index: HashMap<(u32, u32), u32, BuildHasherDefault<Mix>>,
    /// Leaves that no sequence uses, oldest first.
    idle: BTreeSet<(u64, u32)>,
    clock: u64,
    /// Nodes that running sequences hold, now and at most.
    held: usize,
    most_held: usize,
    forgotten: HashSet<u64, BuildHasherDefault<Mix>>,
    /// Nodes that came back after they were forgotten.
    pub(super) returned: u64,
}

impl Tree {
    pub(super) fn new(capacity: usize) -> Self {
        let slots = Slots::new(capacity);
        Self {
            nodes: Vec::new(),
            slots,
            index: HashMap::default(),
            idle: BTreeSet::new(),
            clock: 0,
            held: 0,
            most_held: 0,
            forgotten: HashSet::default(),
            returned: 0,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Nodes that cannot be forgotten now.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Slots in use, by running sequences or not.
    pub(super) fn used(&self) -> usize {
        self.slots.used()
    }

    pub(super) fn state(&self, node: u32) -> State {
        self.nodes[node as usize].state
    }

    pub(super) fn set_state(&mut self, node: u32, state: State) {
        self.nodes[node as usize].state = state;
    }

    pub(super) fn token(&self, node: u32) -> u32 {
        self.nodes[node as usize].token
    }

    /// How many slots a sequence over `tokens` would hold that are not held yet.
    pub(super) fn cost(&self, root: u32, tokens: &[u32]) -> usize {
        let mut parent = root;
        for (at, token) in tokens.iter().enumerate() {
            match self.index.get(&(parent, *token)) {
                Some(node) if self.nodes[*node as usize].active > 0 => parent = *node,
                // Nodes below an unheld one are unheld as well.
                _ => return tokens.len() - at,
            }
        }
        0
    }

    /// The node for `token` after `parent`, made if it is not there, held for one more sequence.
    ///
    /// `None` when every slot is held: whoever admits sequences must not let that happen.
    pub(super) fn enter(&mut self, parent: u32, token: u32) -> Option<u32> {
        if let Some(node) = self.index.get(&(parent, token)).copied() {
            let entry = &mut self.nodes[node as usize];
            if entry.active == 0 {
                self.held += 1;
                if entry.children == 0 {
                    self.idle.remove(&(entry.stamp, node));
                }
            }
            entry.active += 1;
            return Some(node);
        }
        // Roots are not nodes: their numbers lie beyond every slot.
        let before = ((parent as usize) < self.capacity()).then_some(parent);
        let node = loop {
            match self.slots.take(before) {
                Some(node) => break node,
                None => self.forget_one()?,
            }
        };
        let past = before.map_or(u64::from(parent), |parent| self.nodes[parent as usize].hash);
        let hash = mix(past, token);
        if self.forgotten.remove(&hash) {
            self.returned += 1;
        }
        if self.nodes.len() <= node as usize {
            self.nodes.resize(node as usize + 1, Node::default());
        }
        self.nodes[node as usize] =
            Node { token, parent, children: 0, active: 1, stamp: 0, hash, state: State::Missing };
        self.index.insert((parent, token), node);
        if let Some(parent) = before {
            self.nodes[parent as usize].children += 1;
        }
        self.held += 1;
        Some(node)
    }

    /// A sequence leaves: its path, first token first, is no longer held by it.
    pub(super) fn leave(&mut self, path: &[u32]) {
        self.clock += 1;
        self.most_held = self.most_held.max(self.held);
        for node in path.iter().rev() {
            let entry = &mut self.nodes[*node as usize];
            entry.active -= 1;
            entry.stamp = self.clock;
            if entry.active > 0 {
                continue;
            }
            self.held -= 1;
            if entry.children > 0 {
                continue;
            }
            if entry.state == State::Ready {
                self.idle.insert((self.clock, *node));
            } else {
                // It was never computed, and nobody wants it any more.
                self.remove(*node);
            }
        }
        while self.used() - self.held > IDLE.max(IDLE_SHARE * self.most_held) {
            if self.forget_one().is_none() {
                break;
            }
        }
    }

    /// Forgets the leaf that was unused for longest.
    fn forget_one(&mut self) -> Option<()> {
        let (_, node) = self.idle.pop_first()?;
        if self.forgotten.len() < REMEMBERED {
            self.forgotten.insert(self.nodes[node as usize].hash);
        }
        self.remove(node);
        Some(())
    }

    fn remove(&mut self, node: u32) {
        let Node { token, parent, .. } = self.nodes[node as usize];
        self.index.remove(&(parent, token));
        self.slots.give_back(node);
        if let Some(entry) = self.nodes.get_mut(parent as usize) {
            entry.children -= 1;
            if entry.children == 0 && entry.active == 0 && entry.state == State::Ready {
                self.idle.insert((entry.stamp, parent));
            }
        }
    }
}

fn mix(past: u64, token: u32) -> u64 {
    let mut hash = (past ^ u64::from(token).wrapping_add(0x51)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    hash ^= hash >> 32;
    hash.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(tree: &mut Tree, tokens: &[u32]) -> Vec<u32> {
        let mut parent = ROOT;
        let mut path = Vec::new();
        for token in tokens {
            parent = tree.enter(parent, *token).expect("room");
            tree.set_state(parent, State::Ready);
            path.push(parent);
        }
        path
    }

    #[test]
    fn equal_beginnings_share_slots() {
        let mut tree = Tree::new(64);
        let a = path(&mut tree, &[1, 2, 3]);
        assert_eq!(tree.cost(ROOT, &[1, 2, 4, 5]), 2);
        let b = path(&mut tree, &[1, 2, 4, 5]);
        assert_eq!(a[..2], b[..2]);
        assert_eq!((tree.held(), tree.used()), (5, 5));
        tree.leave(&a);
        assert_eq!((tree.held(), tree.used()), (4, 5));
        tree.leave(&b);
        assert_eq!((tree.held(), tree.used()), (0, 5));
        assert_eq!(path(&mut tree, &[1, 2, 3]), a, "what was computed is found again");
    }

    #[test]
    fn the_least_recently_used_leaf_goes_first() {
        let mut tree = Tree::new(16);
        let old = path(&mut tree, &[1, 2, 3, 4, 5, 6, 7, 8]);
        tree.leave(&old);
        let new = path(&mut tree, &[1, 2, 9, 10, 11, 12, 13, 14]);
        tree.leave(&new);
        assert_eq!(tree.used(), 14);
        let more = path(&mut tree, &[20, 21, 22, 23]);
        assert_eq!(tree.used(), 16);
        // The tail of the older path is gone, the newer one is whole.
        let held = tree.held();
        let again = path(&mut tree, &[1, 2, 9, 10, 11, 12, 13, 14]);
        assert_eq!(again, new);
        assert_eq!(tree.held(), held + 8);
        tree.leave(&again);
        tree.leave(&more);
        assert_eq!(tree.returned, 0);
        let back = path(&mut tree, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(tree.returned, 2, "7 and 8 were forgotten and came back");
        tree.leave(&back);
        assert_eq!(tree.held(), 0);
    }

    #[test]
    fn a_full_tree_says_so_and_uncomputed_nodes_vanish() {
        let mut tree = Tree::new(16);
        let mut parent = ROOT;
        let mut all = Vec::new();
        for token in 0..16 {
            parent = tree.enter(parent, token).expect("room");
            all.push(parent);
        }
        assert_eq!(tree.enter(parent, 99), None);
        tree.leave(&all);
        assert_eq!((tree.held(), tree.used()), (0, 0));
    }
}
