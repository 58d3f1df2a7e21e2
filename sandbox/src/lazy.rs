//! A sandbox that starts when the first program comes: tasks without programs never pay for it.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use sipf_plugin::{Error, Execute, Outcome, Program, Result};

use crate::sandbox::{Sandbox, SandboxOptions};

/// Starts on first use.
pub struct LazySandbox {
    options: SandboxOptions,
    made: OnceLock<std::result::Result<Sandbox, String>>,
}

impl LazySandbox {
    /// Nothing is started yet.
    pub fn new(options: SandboxOptions) -> Self {
        Self { options, made: OnceLock::new() }
    }

    /// The sandbox, started now if it was not.
    ///
    /// # Errors
    /// When it does not start.
    pub fn get(&self) -> Result<&Sandbox> {
        let made =
            self.made.get_or_init(|| Sandbox::new(self.options.clone()).map_err(|error| error.to_string()));
        made.as_ref().map_err(|error| Error::new(error.clone()))
    }
}

impl Execute for LazySandbox {
    fn run(&self, programs: &[Program], stop: &AtomicBool, done: &(dyn Fn(usize, Result<Outcome>) + Sync)) {
        match self.get() {
            Ok(sandbox) => sandbox.run(programs, stop, done),
            Err(error) => {
                (0..programs.len()).for_each(|number| done(number, Err(Error::new(error.to_string()))))
            }
        }
    }
}
