//! `sipf verify`: a task's own judge on its reference solutions, or on completions from a file.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use sipf_core::dataset::{self, DataOptions, Lookup};
use sipf_core::error::of_json_line;
use sipf_core::progress::Progress;
use sipf_core::verify::{Judged, Verifier};
use sipf_core::{machine, text};
use sipf_plugin::{Problem, RunVerdict, Split};

use crate::given::at_least_one;
use crate::open::Splits;
use crate::rows_out::RowsOut;
use crate::{exit, interrupt, open};

/// Lines judged together: programs run side by side, results are written in input order.
const BATCH: usize = 256;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["reference", "completions"]))]
pub(crate) struct Args {
    /// The task: its name or a plugin file
    #[arg(long, value_name = "T")]
    task: String,
    /// test, train, validation or all [default: test for --reference, all for --completions]
    #[arg(long, value_name = "S")]
    split: Option<Splits>,
    /// The answer rule that `passed` means [default: the task's]
    #[arg(long, value_name = "R")]
    rule: Option<String>,
    /// Judge the data set's own solutions
    #[arg(long)]
    reference: bool,
    /// Judge these completions: one {"id", "completion"} a line
    #[arg(long, value_name = "F.jsonl", requires = "out")]
    completions: Option<PathBuf>,
    /// Where the verdicts go: one {id, passed, by_rule?, answer?, verdict?, message?} a line
    #[arg(long, value_name = "O.jsonl")]
    out: Option<PathBuf>,
    /// A data folder or one file [default: the published files]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The first so many problems, or lines of completions
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// Threads, and programs at once; the verdicts do not depend on it
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    plugins: open::PluginFlags,
}

/// What was counted; printed at the end.
#[derive(Debug, Default, Serialize)]
struct Tally {
    task: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    total: usize,
    passed: usize,
    failed: usize,
    errors: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    by_rule: BTreeMap<String, usize>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    verdicts: BTreeMap<String, usize>,
    /// Those of the errors that got no verdict at all: bad lines and failed calls.
    #[serde(skip)]
    unjudged: usize,
}

/// One line of the output.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a Value,
    #[serde(flatten)]
    judged: &'a Judged,
}

/// A row of the output on its way.
struct Row {
    /// As the input has it; a line that has none stands in no output.
    id: Option<Value>,
    asked: Asked,
}

enum Asked {
    /// Can be judged.
    Judge { problem: Problem, completion: String },
    /// Cannot, and why, with its place.
    Bad(String),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let task = args.plugins.task(&args.task)?;
    let threads = machine::use_threads(args.threads)?;
    let verifier = Verifier::new(task.clone(), open::sandbox(threads), args.rule.as_deref())?;
    let default = if args.reference { Splits::One(Split::Test) } else { Splits::All };
    let splits = args.split.unwrap_or(default).of(&*task);
    let card = task.card();
    let rule = args.rule.clone().or(Some(card.rule).filter(|rule| !rule.is_empty()));
    let mut session = Session {
        verifier: &verifier,
        progress: Progress::new("verify", None, "completions"),
        out: args.out.as_deref().map(begun).transpose()?,
        tally: Tally { task: card.name, rule, ..Tally::default() },
    };
    match &args.completions {
        Some(path) => completions(&mut session, path, &splits, args)?,
        None => references(&mut session, &splits, args)?,
    }
    let tally = session.finish()?;
    exit::print_line(&match args.json {
        true => serde_json::to_string(&tally)?,
        false => tally.in_words(),
    })?;
    let held = match args.reference {
        true => tally.passed == tally.total,
        false => tally.unjudged == 0,
    };
    Ok(if held { exit::DONE } else { exit::did_not_hold() })
}

fn references(session: &mut Session<'_>, splits: &[Split], args: &Args) -> anyhow::Result<()> {
    let task = session.verifier.task().clone();
    let options = DataOptions { data: args.data.clone(), limit: args.limit, ..DataOptions::default() };
    let mut problems = dataset::load_all(&*task, splits, &options)?.problems.into_iter().peekable();
    while problems.peek().is_some() {
        session.judge(problems.by_ref().take(BATCH).map(reference).collect())?;
    }
    Ok(())
}

fn reference(mut problem: Problem) -> Row {
    let id = Some(Value::from(problem.id.clone()));
    let asked = match problem.solution.take() {
        Some(completion) => Asked::Judge { problem, completion },
        None => Asked::Bad(format!("{}: the data set has no reference solution", problem.id)),
    };
    Row { id, asked }
}

fn completions(session: &mut Session<'_>, path: &Path, splits: &[Split], args: &Args) -> anyhow::Result<()> {
    let task = session.verifier.task().clone();
    let lines = text::open(path).context("--completions")?.split(b'\n').zip(1..);
    let options = DataOptions { data: args.data.clone(), ..DataOptions::default() };
    let problems = Lookup::new(&*task, splits, &options)?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut left = args.limit.unwrap_or(usize::MAX);
    for (line, number) in lines {
        let line = line.with_context(|| format!("{}, line {number}", path.display()))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        if left == 0 {
            break;
        }
        left -= 1;
        let (id, asked) = read(&line, &problems);
        let asked = asked.and_then(|(problem, raw)| {
            let completion = task.clean(&problem, &raw)?;
            Ok(Asked::Judge { problem, completion })
        });
        let bad = |error| Asked::Bad(format!("{}, line {number}: {error:#}", path.display()));
        batch.push(Row { id, asked: asked.unwrap_or_else(bad) });
        if batch.len() == BATCH {
            session.judge(std::mem::take(&mut batch))?;
        }
    }
    session.judge(batch)
}

/// The id of a line, where it has one, and its problem and completion; a run's sample names its problem apart.
fn read(line: &[u8], problems: &Lookup<'_>) -> (Option<Value>, anyhow::Result<(Problem, String)>) {
    let row: Value = match serde_json::from_slice(line) {
        Ok(row) => row,
        Err(error) => return (None, Err(anyhow::anyhow!(of_json_line(&error)))),
    };
    let id = row.get("id").filter(|id| id.is_string() || id.is_number()).cloned();
    let found = (|| {
        let key = |name: &str| row.get(name).with_context(|| format!("key {name:?} is missing"));
        let given = key("id")?;
        let id =
            id.as_ref().with_context(|| format!("key \"id\" is {given}; it should be text or a number"))?;
        let completion = key("completion")?.as_str().context("key \"completion\" should be text")?;
        let named = row.get("problem").and_then(Value::as_str).or_else(|| id.as_str()?.split('#').next());
        let problem = match named {
            Some(named) => problems.find(named)?,
            None => problems.find(&id.to_string()).with_context(|| {
                format!("id {id} is a number: name the problem under \"problem\", or let its own id stand under \"id\"")
            })?,
        };
        Ok((problem, completion.to_owned()))
    })();
    (id, found)
}

struct Session<'a> {
    verifier: &'a Verifier,
    progress: Progress,
    out: Option<RowsOut>,
    tally: Tally,
}

impl Session<'_> {
    /// Judges the rows and writes them in their order. One without a verdict is said on standard error and counted, and
    /// the rest goes on.
    fn judge(&mut self, rows: Vec<Row>) -> anyhow::Result<()> {
        let items: Vec<(&Problem, &str)> = rows
            .iter()
            .filter_map(|row| match &row.asked {
                Asked::Judge { problem, completion } => Some((problem, completion.as_str())),
                Asked::Bad(_) => None,
            })
            .collect();
        let stop = interrupt::flag();
        let results: Vec<Mutex<Option<_>>> = items.iter().map(|_| Mutex::new(None)).collect();
        self.verifier.judge(&items, stop, &|place, judged| {
            *results[place].lock().unwrap_or_else(PoisonError::into_inner) = Some(judged);
            self.progress.add(1);
        });
        if stop.load(Ordering::Relaxed) {
            return Err(sipf_core::Error::Interrupted.into());
        }
        let mut results =
            results.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner));
        for row in &rows {
            let (judged, failed) = match &row.asked {
                Asked::Bad(why) => (without_verdict(None, why), Some(why.clone())),
                Asked::Judge { problem, .. } => match results.next().flatten() {
                    Some(Ok(judged)) => (judged, None),
                    failed => {
                        let why = match failed {
                            Some(Err(error)) => error.to_string(),
                            _ => format!("{}: no verdict came back", problem.id),
                        };
                        (without_verdict(Some(RunVerdict::HostError), &why), Some(why))
                    }
                },
            };
            if let Some(why) = failed {
                self.progress.note(&why);
                self.tally.unjudged += 1;
            }
            self.tally.count(&judged);
            if let (Some(out), Some(id)) = (&mut self.out, &row.id) {
                out.write(&Line { id, judged: &judged })?;
            }
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<Tally> {
        if let Some(out) = self.out {
            out.finish()?;
        }
        Ok(self.tally)
    }
}

/// What is written of a row that was not judged.
fn without_verdict(verdict: Option<RunVerdict>, why: &str) -> Judged {
    Judged { verdict, message: Some(why.to_owned()), undecided: true, ..Judged::default() }
}

impl Tally {
    fn count(&mut self, judged: &Judged) {
        self.total += 1;
        match (judged.undecided, judged.passed) {
            (true, _) => self.errors += 1,
            (_, true) => self.passed += 1,
            (_, false) => self.failed += 1,
        }
        for (rule, right) in &judged.by_rule {
            *self.by_rule.entry(rule.clone()).or_default() += usize::from(*right);
        }
        if let Some(verdict) = judged.verdict {
            *self.verdicts.entry(RunVerdict::to_string(&verdict)).or_default() += 1;
        }
    }

    fn in_words(&self) -> String {
        let mut text = format!("{}: {} of {} passed", self.task, self.passed, self.total);
        if let Some(rule) = &self.rule {
            text.push_str(&format!(" by the rule {rule}"));
        }
        text.push_str(&format!(", {} failed, {} errors", self.failed, self.errors));
        for (what, count) in self.by_rule.iter().chain(&self.verdicts) {
            text.push_str(&format!("\n  {what:<16} {count}"));
        }
        text
    }
}

/// The output, from its first row: a check that was stopped starts again.
fn begun(path: &Path) -> anyhow::Result<RowsOut> {
    RowsOut::open(path, None, |_| Ok(()))
}
