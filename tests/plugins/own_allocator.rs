//! A plugin with an allocator of its own: every block bears a mark, and the answer to `answer` tells how many live
//! and how many were freed that were never handed out here.
#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

use sipf_plugin::prelude::*;

const MARK: u64 = 0x5157_4c55_4749_4e21;
const LEAD: usize = 64;

static LIVE: AtomicI64 = AtomicI64::new(0);
static FOREIGN: AtomicI64 = AtomicI64::new(0);

struct Marking;

fn with_lead(layout: Layout) -> Layout {
    Layout::from_size_align(layout.size() + LEAD, layout.align().max(16)).unwrap_or(layout)
}

// SAFETY: hands out the system's blocks, shifted by a lead that keeps every alignment up to LEAD.
unsafe impl GlobalAlloc for Marking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe {
            let block = System.alloc(with_lead(layout));
            if block.is_null() || layout.align() > LEAD {
                return std::ptr::null_mut();
            }
            block.cast::<u64>().write(MARK);
            LIVE.fetch_add(1, Ordering::Relaxed);
            block.add(LEAD)
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe {
            let block = place.sub(LEAD);
            if block.cast::<u64>().read() != MARK {
                FOREIGN.fetch_add(1, Ordering::Relaxed);
                return;
            }
            block.cast::<u64>().write(0);
            LIVE.fetch_sub(1, Ordering::Relaxed);
            System.dealloc(block, with_lead(layout));
        }
    }
}

#[global_allocator]
static ALLOCATOR: Marking = Marking;

#[derive(Default)]
pub struct OwnAllocator;

impl Task for OwnAllocator {
    fn card(&self) -> TaskCard {
        TaskCard::new("own-allocator", Domain::Other)
    }

    fn problems(&self, _: &Row, _: Split) -> Result<Vec<Problem>> {
        Ok(Vec::new())
    }

    fn prompt(&self, problem: &Problem, _: Role) -> Result<String> {
        Ok(problem.question.repeat(3))
    }

    fn verify(&self, _: &Problem, _: &str) -> Result<Check> {
        Err(Error::new("an error is a reply like any other"))
    }

    fn answer(&self, _: &str) -> Result<Option<String>> {
        Ok(Some(format!("{} {}", LIVE.load(Ordering::Relaxed), FOREIGN.load(Ordering::Relaxed))))
    }
}

sipf_plugin::export_task!(OwnAllocator);
