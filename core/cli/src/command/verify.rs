//! `sipf verify`: a task's own judge on its reference solutions, or on completions from a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use sipf_core::dataset::{self, DataOptions, Lookup};
use sipf_core::error::of_json_line;
use sipf_core::progress::Progress;
use sipf_core::verify::{Judged, Verifier};
use sipf_plugin::{Problem, RunVerdict, Split};

use crate::given::at_least_one;
use crate::rows_out::RowsOut;
use crate::{exit, open};

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
    split: Option<String>,
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
    /// Rows that got no verdict at all: bad lines and failed calls.
    #[serde(skip)]
    unjudged: usize,
}

/// One line of the output.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    #[serde(flatten)]
    judged: &'a Judged,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let task = args.plugins.task(&args.task)?;
    let verifier = Verifier::new(task.clone(), open::sandbox()?, args.rule.as_deref())?;
    let splits = match (args.split.as_deref(), args.reference) {
        (None, true) => vec![Split::Test],
        (None | Some("all"), _) => dataset::splits(&*task),
        (Some(name), _) => vec![name.parse::<Split>().map_err(|error| anyhow::anyhow!("--split: {error}"))?],
    };
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
    let mut left = args.limit;
    for split in splits {
        let options = DataOptions { data: args.data.clone(), limit: left, ..DataOptions::default() };
        let loaded = dataset::load(&*task, *split, &options)?;
        left = left.map(|limit| limit.saturating_sub(loaded.problems.len()));
        for batch in loaded.problems.chunks(BATCH) {
            let mut items = Vec::with_capacity(batch.len());
            for problem in batch {
                match &problem.solution {
                    Some(solution) => items.push((problem.id.as_str(), problem, solution.as_str())),
                    None => session.bad(&format!("{}: the data set has no reference solution", problem.id)),
                }
            }
            session.judge(&items)?;
        }
    }
    Ok(())
}

/// A line of completions that can be judged.
struct Asked {
    id: String,
    problem: Problem,
    completion: String,
}

fn completions(session: &mut Session<'_>, path: &Path, splits: &[Split], args: &Args) -> anyhow::Result<()> {
    let task = session.verifier.task().clone();
    let file = File::open(path).with_context(|| format!("--completions {}", path.display()))?;
    let options = DataOptions { data: args.data.clone(), ..DataOptions::default() };
    let problems = Lookup::new(&*task, splits, &options)?;
    let lines = BufReader::new(file).split(b'\n').zip(1..);
    let mut batch: Vec<Asked> = Vec::with_capacity(BATCH);
    let mut taken = 0;
    for (line, number) in lines {
        let line = line.with_context(|| format!("{}, line {number}", path.display()))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        if args.limit.is_some_and(|limit| taken >= limit) {
            break;
        }
        taken += 1;
        let asked = read(&line, &problems).and_then(|(id, problem, raw)| {
            let completion = task.clean(&problem, &raw)?;
            Ok(Asked { id, problem, completion })
        });
        match asked {
            Ok(asked) => batch.push(asked),
            Err(error) => session.bad(&format!("{}, line {number}: {error:#}", path.display())),
        }
        if batch.len() == BATCH {
            session.judge_all(&batch)?;
            batch.clear();
        }
    }
    session.judge_all(&batch)
}

/// Id, problem and completion of a line; a run's sample names its problem apart.
fn read(line: &[u8], problems: &Lookup<'_>) -> anyhow::Result<(String, Problem, String)> {
    let text = std::str::from_utf8(line).context("not UTF-8")?;
    let row: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| anyhow::anyhow!(of_json_line(&error)))?;
    let key = |name: &str| match row.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => anyhow::bail!("key {name:?} should be text"),
        None => anyhow::bail!("key {name:?} is missing"),
    };
    let (id, completion) = (key("id")?, key("completion")?);
    let named = row.get("problem").and_then(Value::as_str);
    let wanted = named.unwrap_or_else(|| id.split_once('#').map_or(id, |(problem, _)| problem));
    let problem = problems.find(wanted)?;
    Ok((id.to_owned(), problem, completion.to_owned()))
}

struct Session<'a> {
    verifier: &'a Verifier,
    progress: Progress,
    out: Option<RowsOut>,
    tally: Tally,
}

impl Session<'_> {
    fn judge_all(&mut self, batch: &[Asked]) -> anyhow::Result<()> {
        let items: Vec<_> =
            batch.iter().map(|a| (a.id.as_str(), &a.problem, a.completion.as_str())).collect();
        self.judge(&items)
    }

    fn judge(&mut self, items: &[(&str, &Problem, &str)]) -> anyhow::Result<()> {
        let asked: Vec<(&Problem, &str)> = items.iter().map(|(_, problem, text)| (*problem, *text)).collect();
        let results: Vec<Mutex<Option<_>>> = asked.iter().map(|_| Mutex::new(None)).collect();
        self.verifier.judge(&asked, &AtomicBool::new(false), &|place, judged| {
            if let Ok(mut result) = results[place].lock() {
                *result = Some(judged);
            }
            self.progress.add(1);
        });
        for ((id, ..), result) in items.iter().zip(results) {
            match result.into_inner().ok().flatten() {
                Some(Ok(judged)) => {
                    self.tally.count(&judged);
                    if let Some(out) = &mut self.out {
                        out.write(&Line { id, judged: &judged })?;
                    }
                }
                Some(Err(error)) => self.bad(&format!("{id}: {error}")),
                None => self.bad(&format!("{id}: no verdict came back")),
            }
        }
        Ok(())
    }

    /// A row without a verdict: said on standard error, counted, and the rest goes on.
    fn bad(&mut self, what: &str) {
        self.progress.note(what);
        self.tally.total += 1;
        self.tally.errors += 1;
        self.tally.unjudged += 1;
    }

    fn finish(self) -> anyhow::Result<Tally> {
        if let Some(out) = self.out {
            out.finish()?;
        }
        Ok(self.tally)
    }
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
