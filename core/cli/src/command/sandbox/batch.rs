//! `sipf sandbox batch`: a file of programs, judged side by side, written in input order in bounded memory. Stopped
//! and given again, it goes on.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value};
use sipf_core::error::of_json_line;
use sipf_core::{machine, text};
use sipf_plugin::{Limits, Outcome, Program};

use super::{LimitFlags, Row, open};
use crate::exit::EndedEarly;
use crate::given::at_least_one;
use crate::rows_out::RowsOut;
use crate::{exit, interrupt};

/// Rows read ahead of the first one that is not written yet.
const AHEAD: usize = 256;
/// How often a worker that waits for its turn looks whether to stop.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The programs, one JSON object a line
    #[arg(value_name = "IN.jsonl")]
    input: PathBuf,
    /// Where the verdicts go, in the same order
    #[arg(long, value_name = "OUT.jsonl")]
    out: PathBuf,
    /// Verdicts at once [default: one a processor]
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    threads: Option<usize>,
    /// The first so many rows
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    #[command(flatten)]
    limits: LimitFlags,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One line of the input, by its keys.
fn parse(line: &[u8]) -> Result<(Value, Program), String> {
    let row: Map<String, Value> = serde_json::from_slice(line)
        .map_err(|error| format!("is no JSON object: {}", of_json_line(&error)))?;
    let id = row.get("id").ok_or("key \"id\" is missing")?;
    let text = |key: &str| match row.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("key {key:?} should be text")),
    };
    let texts = |key: &str| match row.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value::<Vec<String>>(value.clone())
            .map(Some)
            .map_err(|_| format!("key {key:?} should be a list of texts")),
    };
    let limits = match row.get("limits") {
        None | Some(Value::Null) => Limits::default(),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|_| "key \"limits\" should be {fuel, memory_bytes, output_bytes}")?,
    };
    let program = Program::python(text("program")?.ok_or("key \"program\" is missing")?)
        .tests(texts("tests")?.ok_or("key \"tests\" is missing")?)
        .setup(text("setup")?.unwrap_or_default())
        .names(texts("names")?.unwrap_or_default())
        .limits(limits);
    Ok((id.clone(), program))
}

/// What the workers share: the input, the rows that wait for their turn, and the output.
struct Desk {
    lines: std::io::Split<text::Reader>,
    line: usize,
    /// Rows that may still be read.
    left: usize,
    /// Good lines whose verdicts an earlier try has written, and which are still to be passed over.
    earlier: usize,
    given: usize,
    written: usize,
    waiting: BTreeMap<usize, (Value, Outcome)>,
    out: RowsOut,
    counts: BTreeMap<String, usize>,
    bad_lines: usize,
    failed: Option<anyhow::Error>,
}

impl Desk {
    /// What is left when not every row got its verdict.
    fn left(&self) -> String {
        format!(
            "the first {} verdicts stand in {}, and the same command goes on after them",
            self.written,
            self.out.place().display()
        )
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let input = text::open(&args.input)?;
    let mut counts = BTreeMap::from([("passed".to_owned(), 0)]);
    let mut earlier = 0;
    let out = RowsOut::open(&args.out, key(args)?.as_deref(), |row| {
        let row: Map<String, Value> = serde_json::from_str(row)?;
        let verdict = row.get("verdict").and_then(Value::as_str).context("a row without a verdict")?;
        *counts.entry(verdict.to_owned()).or_default() += 1;
        earlier += 1;
        Ok(())
    })?;
    if earlier > 0 {
        exit::tell(&format!("sandbox: goes on after {earlier} verdicts"));
    }
    let sandbox = open(machine::use_threads(args.threads)?, args.limits.limits())?;
    let desk = Mutex::new(Desk {
        lines: input.split(b'\n'),
        line: 0,
        left: args.limit.unwrap_or(usize::MAX),
        earlier,
        given: earlier,
        written: earlier,
        waiting: BTreeMap::new(),
        out,
        counts,
        bad_lines: 0,
        failed: None,
    });
    let (written, stop) = (Condvar::new(), interrupt::flag());
    let sit = || desk.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || {
        let mut desk = sit();
        while desk.given - desk.written >= AHEAD && desk.failed.is_none() && !stop.load(Ordering::Relaxed) {
            desk = written.wait_timeout(desk, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        take(&mut desk, args)
    };
    let done = |(number, id): (usize, Value), outcome: sipf_plugin::Result<Outcome>| {
        let mut desk = sit();
        let outcome =
            outcome.unwrap_or_else(|error| Outcome { message: error.to_string(), ..Outcome::default() });
        desk.waiting.insert(number, (id, outcome));
        if let Err(error) = put(&mut desk) {
            desk.failed = Some(error);
        }
        written.notify_all();
    };
    sandbox.stream(stop, &next, &done)?;
    let mut desk = desk.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = desk.failed.take() {
        let left = desk.left();
        return Err(EndedEarly(error.context(format!("ended early; {left}"))).into());
    }
    if stop.load(Ordering::Relaxed) {
        desk.out.flush()?;
        exit::eprint_line(&format!("sipf: interrupted; {}", desk.left()));
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    desk.out.finish()?;
    report(args.json, desk.written, desk.bad_lines, &desk.counts)?;
    let judged = desk.bad_lines == 0 && !desk.counts.contains_key("host_error");
    Ok(if judged { exit::DONE } else { exit::did_not_hold() })
}

/// What the verdicts are made from: the rows and how many of them, the limits, the interpreter and this program. What cannot be read twice
/// has no key.
fn key(args: &Args) -> anyhow::Result<Option<String>> {
    if !args.input.is_file() {
        return Ok(None);
    }
    let rows = sipf_core::run_dir::hash_file(&args.input)?;
    let made_from = [
        rows,
        serde_json::to_string(&args.limits.limits())?,
        serde_json::to_string(&args.limit)?,
        sipf_sandbox::SHA256.to_owned(),
        env!("CARGO_PKG_VERSION").to_owned(),
    ];
    Ok(Some(sipf_core::run_dir::hash_rows(&made_from)?[..16].to_owned()))
}

/// The next good line; bad ones are named and counted.
fn take(desk: &mut MutexGuard<'_, Desk>, args: &Args) -> Option<((usize, Value), Program)> {
    loop {
        if desk.failed.is_some() {
            return None;
        }
        if desk.left == 0 {
            return None;
        }
        let line = desk.lines.next()?;
        desk.line += 1;
        if line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()) {
            continue;
        }
        desk.left -= 1;
        let parsed = match line {
            Ok(line) => parse(&line),
            Err(error) => {
                desk.failed = Some(anyhow::Error::new(error).context(args.input.display().to_string()));
                return None;
            }
        };
        match parsed {
            Ok(_) if desk.earlier > 0 => desk.earlier -= 1,
            Ok((id, program)) => {
                desk.given += 1;
                return Some(((desk.given - 1, id), program));
            }
            Err(why) => {
                desk.bad_lines += 1;
                exit::eprint_line(&format!("{}:{}: {why}", args.input.display(), desk.line));
            }
        }
    }
}

/// Writes the rows whose turn it is.
fn put(desk: &mut MutexGuard<'_, Desk>) -> anyhow::Result<()> {
    loop {
        let turn = desk.written;
        let Some((id, outcome)) = desk.waiting.remove(&turn) else { return desk.out.flush() };
        desk.out.write(&Row::new(&id, &outcome))?;
        desk.written += 1;
        *desk.counts.entry(outcome.verdict.name().to_owned()).or_default() += 1;
    }
}

fn report(json: bool, total: usize, bad: usize, counts: &BTreeMap<String, usize>) -> anyhow::Result<()> {
    if json {
        let mut object =
            Map::from_iter([("total".to_owned(), total.into()), ("bad_lines".to_owned(), bad.into())]);
        object.extend(counts.iter().map(|(name, &count)| (name.clone(), count.into())));
        return exit::print_line(&serde_json::to_string(&object)?);
    }
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let bad = if bad > 0 { format!("; {bad} bad lines") } else { String::new() };
    exit::print_line(&format!("{total} programs: {}{bad}", counts.join(", ")))
}
