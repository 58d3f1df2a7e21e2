//! `sipf sandbox exec`: one program file and its tests.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;
use sipf_core::text;
use sipf_plugin::{Outcome, Program, RunVerdict};

use super::{LimitFlags, Row, open};
use crate::exit;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The program
    #[arg(value_name = "FILE.py")]
    file: PathBuf,
    /// A test, run apart from the program: `assert f(2) == 4` (may stand several times)
    #[arg(long = "test", value_name = "EXPR", allow_hyphen_values = true)]
    tests: Vec<String>,
    /// Code that runs before the tests, apart from the program
    #[arg(long, value_name = "FILE")]
    setup: Option<PathBuf>,
    /// The only names that the tests take from the program
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    names: Vec<String>,
    #[command(flatten)]
    limits: LimitFlags,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let setup = args.setup.as_deref().map(text::read).transpose()?.unwrap_or_default();
    let names = args.names.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
    let program =
        Program::python(text::read(&args.file)?).setup(setup).tests(args.tests.clone()).names(names);
    let outcome = open(1, args.limits.limits())?.one(&program)?;
    let id = Value::String(args.file.display().to_string());
    exit::print_line(&match args.json {
        true => serde_json::to_string(&Row::new(&id, &outcome))?,
        false => in_words(&outcome),
    })?;
    Ok(if outcome.verdict == RunVerdict::Passed { exit::DONE } else { exit::did_not_hold() })
}

fn in_words(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    if !outcome.stdout.is_empty() {
        lines.push(printable(outcome.stdout.trim_end()));
    }
    for (number, test) in outcome.tests.iter().enumerate() {
        let gap = if test.message.is_empty() { "" } else { ": " };
        lines.push(format!("test {number}: {}{gap}{}", test.verdict, test.message));
    }
    let why = if outcome.message.is_empty() { String::new() } else { format!(": {}", outcome.message) };
    lines.push(format!(
        "{}{why} (fuel {}, memory {} MiB)",
        outcome.verdict,
        outcome.fuel,
        outcome.memory_bytes >> 20
    ));
    lines.join("\n")
}

/// What a program printed, without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && !matches!(c, '\n' | '\t') {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    plain
}
