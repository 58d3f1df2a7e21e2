//! `sipf bench plugin`: what a call costs through each transport, against the same task linked in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sipf_plugin::{Problem, Role, Task, conformance};

use super::median;
use crate::given::at_least_one;
use crate::open::PluginFlags;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A built-in task: the peer that every file is held against
    #[arg(long, value_name = "T", default_value = "gsm8k")]
    task: String,
    /// Plugin files that export the same task
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Measurements of each, taking turns; the median is reported
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = at_least_one::<usize>())]
    repeats: usize,
    /// Each measurement takes about this many seconds
    #[arg(long, value_name = "S", default_value_t = 0.1)]
    at_least: f64,
}

/// A call over all fixture problems.
type Ask = fn(&dyn Task, &Problem) -> sipf_plugin::Result<()>;

/// A short reply, a verdict, a list.
const CALLS: [(&str, Ask); 3] = [
    ("prompt", |task, problem| task.prompt(problem, Role::Policy).map(drop)),
    ("verify", |task, problem| task.verify(problem, solution(problem)).map(drop)),
    ("steps", |task, problem| task.steps(problem, solution(problem)).map(drop)),
];

fn solution(problem: &Problem) -> &str {
    problem.solution.as_deref().unwrap_or_default()
}

/// A line a call and transport: microseconds, and how many times the linked task's.
pub(super) fn table(result: &Value) -> Vec<String> {
    let rows = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let mut lines = vec![format!("{:8}  {:8}  {:>10}  {:>8}", "call", "through", "us a call", "x linked")];
    for call in rows(&result["calls"]) {
        let name = call["call"].as_str().unwrap_or_default();
        lines.extend(rows(&call["transports"]).iter().map(|row| {
            let number = |key: &str| row[key].as_f64().unwrap_or_default();
            let transport = row["transport"].as_str().unwrap_or_default();
            format!("{name:8}  {transport:8}  {:10.2}  {:8.1}", number("microseconds"), number("ratio"))
        }));
    }
    lines
}

/// The task through one transport.
struct Subject {
    transport: String,
    task: Arc<dyn Task>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Value> {
    let registry = PluginFlags::default().registry()?;
    let linked = registry.task(&format!("builtin:{}", args.task))?;
    let problems = conformance::fixture_problems(&*linked)?;
    let mut subjects = vec![Subject { transport: "linked".into(), task: linked }];
    for file in &args.files {
        subjects.push(subject(&registry.open(file)?, file, &args.task)?);
    }
    let mut calls = Vec::new();
    for (name, ask) in CALLS {
        let mut found: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
        for _ in 0..args.repeats.max(1) {
            for (subject, times) in subjects.iter().zip(&mut found) {
                times.push(seconds_a_call(&*subject.task, &problems, ask, args.at_least)?);
            }
        }
        let medians: Vec<f64> = found.into_iter().map(median).collect();
        let rows = subjects.iter().zip(&medians).map(|(subject, seconds)| {
            json!({ "transport": subject.transport, "microseconds": seconds * 1e6,
                "over_linked_microseconds": (seconds - medians[0]) * 1e6, "ratio": seconds / medians[0] })
        });
        calls.push(json!({ "call": name, "transports": rows.collect::<Vec<_>>() }));
    }
    Ok(json!({ "task": args.task, "problems": problems.len(), "calls": calls }))
}

fn subject(library: &Arc<sipf_plugin_host::Library>, file: &Path, name: &str) -> anyhow::Result<Subject> {
    let task = library.task(name).with_context(|| format!("{} exports no task {name:?}", file.display()))?;
    Ok(Subject { transport: library.kind().to_string(), task })
}

/// One measurement: rounds over the problems until the time is up.
fn seconds_a_call(task: &dyn Task, problems: &[Problem], ask: Ask, at_least: f64) -> anyhow::Result<f64> {
    ensure!(!problems.is_empty(), "the task has no fixture problems");
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed().as_secs_f64() < at_least {
        for problem in problems {
            ask(task, problem)?;
        }
        calls += problems.len();
    }
    Ok(start.elapsed().as_secs_f64() / calls.max(1) as f64)
}
