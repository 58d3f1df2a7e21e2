//! Worker threads: take the next job when a verdict is done, never more at once than the engine has slots for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::{Permit, slots};
use crate::error::Result;

/// The WebAssembly stack lies on the worker's own.
pub(crate) const THREAD_STACK: usize = 16 << 20;
/// How often a stop is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Runs `work` for every job that `next` gives, on at most `threads` threads, and hands each result to `done`; returns
/// when all are done, or soon after `stop` is true: the flag handed to `work` is then set, and no further job is taken.
///
/// A worker has a slot of the engine only during `work`: `next` and `done` may wait, or enter the sandbox themselves.
pub(crate) fn drive<J: Send, R>(
    threads: usize,
    stop: &AtomicBool,
    next: &(dyn Fn() -> Option<J> + Sync),
    work: &(dyn Fn(&mut J, &Arc<AtomicBool>) -> R + Sync),
    done: &(dyn Fn(J, R) + Sync),
) -> Result<()> {
    let interrupt = Arc::new(AtomicBool::new(false));
    let running = AtomicUsize::new(0);
    let (lock, ended) = (Mutex::new(()), Condvar::new());
    std::thread::scope(|scope| {
        let worker = || {
            let _leaving = Leaving { running: &running, ended: &ended };
            while !stop.load(Ordering::Relaxed) {
                let Some(mut job) = next() else { break };
                let Some(permit) = Permit::wait(stop) else { break };
                let result = work(&mut job, &interrupt);
                drop(permit);
                done(job, result);
            }
        };
        for number in 0..threads.clamp(1, slots()) {
            running.fetch_add(1, Ordering::SeqCst);
            let started = std::thread::Builder::new()
                .name(format!("sipf-sandbox-{number}"))
                .stack_size(THREAD_STACK)
                .spawn_scoped(scope, worker);
            if let Err(error) = started {
                running.fetch_sub(1, Ordering::SeqCst);
                if number == 0 {
                    return Err(error.into());
                }
                break;
            }
        }
        let mut held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        while running.load(Ordering::SeqCst) > 0 {
            if stop.load(Ordering::Relaxed) {
                interrupt.store(true, Ordering::Relaxed);
            }
            held = ended.wait_timeout(held, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    })
}

struct Leaving<'a> {
    running: &'a AtomicUsize,
    ended: &'a Condvar,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.ended.notify_all();
    }
}
