//! The `sipf` command: parse, resolve, run.

mod builtin;
mod command;
mod exit;
mod interrupt;
mod open;
mod recipe;
mod requirements;
mod settings;
mod source;
mod training;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = command::Arguments::parse();
    match command::run(arguments) {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}
