//! Nothing that one side allocated is freed by the other: both have marking allocators, and both count.
#![allow(unsafe_code, reason = "an allocator that marks its blocks")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use sipf_plugin::{Problem, Role};

use super::{native, opened};

const MARK: u64 = 0x484f_5354_4249_5453;

static FOREIGN: AtomicUsize = AtomicUsize::new(0);

/// This test binary's allocator: a mark stands before every block, and a block without it is counted and left alone.
pub(crate) struct Marking;

fn lead(layout: Layout) -> usize {
    layout.align().max(16)
}

fn with_lead(layout: Layout) -> Layout {
    let size = layout.size().saturating_add(lead(layout));
    Layout::from_size_align(size, lead(layout)).unwrap_or(layout)
}

// SAFETY: hands out the system's blocks shifted by a multiple of their alignment, which leaves room for the mark.
unsafe impl GlobalAlloc for Marking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the block is `lead` bytes longer than asked for, and the lead holds at least 16 bytes.
        unsafe {
            let block = System.alloc(with_lead(layout));
            if block.is_null() {
                return block;
            }
            let place = block.add(lead(layout));
            place.sub(8).cast::<u64>().write(MARK);
            place
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: a block of ours has its mark there; of a foreign one these bytes belong to its allocator.
        unsafe {
            let mark = place.sub(8).cast::<u64>();
            if mark.read() != MARK {
                FOREIGN.fetch_add(1, Ordering::Relaxed);
                return;
            }
            mark.write(0);
            System.dealloc(place.sub(lead(layout)), with_lead(layout));
        }
    }
}

#[test]
fn the_counter_notices_a_foreign_block() {
    let layout = Layout::from_size_align(100, 8).unwrap();
    let before = FOREIGN.load(Ordering::Relaxed);
    // SAFETY: a block of the system's, with room before the place that is given back; it is leaked.
    unsafe {
        let block = System.alloc_zeroed(Layout::from_size_align(116, 16).unwrap());
        Marking.dealloc(block.add(16), layout);
    }
    assert_eq!(FOREIGN.load(Ordering::Relaxed), before + 1);
}

#[test]
fn each_side_frees_its_own_blocks_and_all_of_them() {
    let task = opened(&native("own_allocator")).task("own-allocator").unwrap();
    let counts = || {
        let text = task.answer("").unwrap().unwrap();
        let (live, foreign) = text.split_once(' ').unwrap();
        (live.parse::<i64>().unwrap(), foreign.parse::<i64>().unwrap())
    };
    let ask = |length: usize| {
        let problem = Problem::new("p/0", "é".repeat(length));
        assert_eq!(task.prompt(&problem, Role::Policy).unwrap().len(), 6 * length);
        assert!(task.verify(&problem, "").is_err());
    };
    ask(10);
    counts();
    let (before, _) = counts();
    let here = FOREIGN.load(Ordering::Relaxed);
    for length in (0..2000).chain([100_000, 1_000_000]) {
        ask(length);
    }
    let (after, foreign) = counts();
    assert_eq!(
        (after, foreign),
        (before, 0),
        "blocks that live in the plugin, blocks freed there that were not its own"
    );
    // The test beside this one frees a foreign block on purpose, once.
    assert!(FOREIGN.load(Ordering::Relaxed) <= here + 1, "blocks freed here that were not ours");
}
