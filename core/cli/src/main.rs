//! The `sipf` command: parse, resolve, run.

mod builtin;
mod command;
mod exit;
mod given;
mod interrupt;
mod open;
mod recipe;
mod requirements;
mod rows_out;
mod settings;
mod source;
mod stage;
mod training;
mod writable;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    leave_threads_to_the_kernels();
    interrupt::listen();
    let done = given::parse().and_then(|(arguments, given)| {
        command::run(arguments, &given).map_err(|error| given.explained(error))
    });
    match done {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}

/// Keeps candle's own elementwise operations on the thread that calls them. Its pool hands an addition of 64k numbers to
/// threads that spin until the last of them is done, beside the threads of the kernels: on two busy cores that alone
/// took three quarters of a training step. The bits do not depend on it; `CANDLE_NUM_THREADS` is respected.
#[expect(unsafe_code, reason = "sets a variable of the environment")]
fn leave_threads_to_the_kernels() {
    const THREADS: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(THREADS).is_none() {
        // SAFETY: the first thing `main` does, so no other thread reads the environment.
        unsafe { std::env::set_var(THREADS, "1") };
    }
}
