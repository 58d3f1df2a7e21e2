//! `sipf sandbox`: runs untrusted Python programs, one or many, and checks what is enforced on this machine.

mod batch;
mod check;
mod exec;

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;
use sipf_plugin::{Counters, Limits, Outcome, RunVerdict, TestOutcome};
use sipf_sandbox::{Found, Sandbox, SandboxOptions};

use crate::exit;
use crate::given::at_least_one;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run one program and its tests; exit 0 only when it passed
    Exec(exec::Args),
    /// Run a file of programs: one {"id", "program", "tests", "setup"?, "names"?} a line
    Batch(batch::Args),
    /// Try every limit on this machine and say what is enforced
    Check(check::Args),
}

/// Limits by flag.
#[derive(Debug, Clone, clap::Args)]
struct LimitFlags {
    /// Units of work that a program may use [default: 100000000000]
    #[arg(long, value_name = "N", value_parser = at_least_one::<u64>())]
    fuel: Option<u64>,
    /// Memory that a program may use, in MiB, at most 512 [default: 256]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(32..=512))]
    memory: Option<u64>,
}

impl LimitFlags {
    fn limits(&self) -> Limits {
        Limits {
            fuel: self.fuel.unwrap_or(0),
            memory_bytes: self.memory.unwrap_or(0) << 20,
            ..Limits::default()
        }
    }
}

/// A verdict as it is written.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a Value,
    verdict: RunVerdict,
    message: &'a str,
    tests: &'a [TestOutcome],
    fuel: u64,
    memory_bytes: u64,
    limit_hit: bool,
    counters: Counters,
    stdout: &'a str,
}

impl<'a> Row<'a> {
    fn new(id: &'a Value, outcome: &'a Outcome) -> Self {
        Self {
            id,
            verdict: outcome.verdict,
            message: &outcome.message,
            tests: &outcome.tests,
            fuel: outcome.fuel,
            memory_bytes: outcome.memory_bytes,
            limit_hit: outcome.limit_hit,
            counters: outcome.counters,
            stdout: &outcome.stdout,
        }
    }
}

/// Makes the sandbox ready and says so where that took long.
fn open(threads: usize, limits: Limits) -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::new(SandboxOptions { threads, limits, cache: None })
        .context("the sandbox does not start")?;
    match &sandbox.start().found {
        Found::Hit => {}
        Found::Written => exit::tell(&format!(
            "sandbox: compiled the interpreter once for this machine ({:.0} s)",
            sandbox.start().took.as_secs_f64()
        )),
        Found::Kept(why) => exit::tell(&format!(
            "sandbox: compiled the interpreter for this command only ({:.0} s): {why}",
            sandbox.start().took.as_secs_f64()
        )),
    }
    Ok(sandbox)
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Exec(args) => exec::run(args),
        What::Batch(args) => batch::run(args),
        What::Check(args) => check::run(args),
    }
}
