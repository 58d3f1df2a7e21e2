//! The sandbox as everyone else sees it.

use std::sync::atomic::AtomicBool;

use crate::check::{Outcome, Program};
use crate::error::Result;

/// Runs programs. Callers may enter it from several threads.
pub trait Execute: Send + Sync {
    /// Runs all `programs`; `done(i, outcome)` is called once for each, as results come, from any thread.
    ///
    /// Once `stop` is true no further program starts and running ones end within a second; programs that did
    /// not finish get no call of `done`.
    fn run(&self, programs: &[Program], stop: &AtomicBool, done: &(dyn Fn(usize, Result<Outcome>) + Sync));
}
