//! What every training command does once its objective stands: evaluate only, show the plan, or train.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use sipf_core::align::BadRows;
use sipf_core::model::save;
use sipf_core::progress::Progress;
use sipf_core::train::{self, Objective};

use super::{Resolved, TrainingFlags};
use crate::given::Given;
use crate::{exit, interrupt, stage, writable};

/// A training that only has to be started.
pub(crate) struct Job<'a> {
    pub(crate) given: &'a Given,
    pub(crate) flags: &'a TrainingFlags,
    pub(crate) resolved: &'a Resolved,
    pub(crate) objective: &'a dyn Objective,
    pub(crate) eval: Option<&'a dyn Objective>,
    /// The folder whose tokenizer goes along with the model; `None` where the objective writes its own.
    pub(crate) base: Option<&'a Path>,
    /// Rows that were passed over.
    pub(crate) bad: &'a BadRows,
}

/// Rows of several files one after the other, at most `limit`.
pub(crate) fn read_rows<T>(
    files: &[PathBuf],
    limit: usize,
    shape: &str,
    mut read: impl FnMut(&Path) -> sipf_core::Result<Vec<T>>,
) -> anyhow::Result<Vec<T>> {
    let mut rows = Vec::new();
    for file in files {
        rows.extend(read(file)?);
    }
    rows.truncate(limit);
    anyhow::ensure!(!rows.is_empty(), "no rows: say --data ROWS.jsonl with {shape}");
    Ok(rows)
}

/// Evaluates, plans or trains, as the flags say, and prints what came out.
pub(crate) fn conduct(job: &Job<'_>) -> anyhow::Result<ExitCode> {
    let Job { flags, resolved, objective, .. } = job;
    report_bad(job.bad);
    if flags.dry_run {
        let tokens = (0..objective.rows()).map(|row| objective.tokens(row)).sum();
        flags.print_plan(job.given, resolved, objective.rows(), tokens)?;
        return Ok(exit::DONE);
    }
    if flags.eval_only {
        let mut figures = train::evaluate(*objective, resolved.settings.batch_size)?;
        figures.insert("skipped".into(), json!(job.bad.found().len()));
        figures.extend(objective.counts());
        exit::print_line(&Value::Object(figures).to_string())?;
        return Ok(exit::DONE);
    }
    let out = flags.out.as_deref().context("--out DIR says where the model goes")?;
    writable::folder("--out", out)?;
    let steps = resolved.settings.steps(objective.rows());
    let progress = Progress::new("train", Some(steps as u64), "steps");
    let trained = train::train(*objective, job.eval, &resolved.settings, out, interrupt::flag(), &progress);
    let report = interrupt::kept(trained, out)?;
    progress.finish();
    if let Some(base) = job.base {
        save::copy_tokenizer(base, out)?;
    }
    if flags.json {
        let mut object = serde_json::to_value(&report)?;
        object["out"] = json!(out);
        object["skipped"] = json!(job.bad.found().len());
        exit::print_line(&object.to_string())?;
    } else {
        let counts = match report.counts.is_empty() {
            true => String::new(),
            false => format!(", {}", stage::in_words(&report.counts)),
        };
        exit::print_line(&format!(
            "{} steps over {} rows{counts}: loss {:.4}, at the end {:.4}; {}",
            report.steps,
            report.rows,
            report.loss,
            report.final_loss,
            out.display()
        ))?;
    }
    Ok(exit::DONE)
}

/// Rows shown of those that were passed over.
const SHOWN: usize = 10;

fn report_bad(bad: &BadRows) {
    let found = bad.found();
    for why in found.iter().take(SHOWN) {
        exit::eprint_line(&format!("skipped: {why}"));
    }
    if found.len() > SHOWN {
        exit::eprint_line(&format!("skipped: {} more rows", found.len() - SHOWN));
    }
}
