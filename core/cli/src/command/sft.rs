//! `sipf sft`: supervised fine-tuning on rows.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use serde_json::json;
use sipf_core::align::{SftObjective, SftRow};
use sipf_core::model::{Decoder, LoadOptions, ModelFolder, Tokenizer};
use sipf_core::progress::Progress;
use sipf_core::train::{self, Objective, TrainSettings};

use crate::exit;
use crate::training::{Resolved, TrainingFlags};

/// TRL's longest row.
const MAX_LENGTH: usize = 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    training: TrainingFlags,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flags = &args.training;
    let resolved = flags.resolve(&TrainSettings::default(), None, MAX_LENGTH, &[])?;
    let rows = read(&resolved.data, resolved.limit)?;
    let folder = ModelFolder::open(&resolved.model, resolved.settings.seed)?;
    let tokenizer = Tokenizer::load(folder.path())?;
    let options = match flags.eval_only {
        true => LoadOptions { trainable: Default::default(), ..resolved.options.clone() },
        false => resolved.options.clone(),
    };
    let decoder = Decoder::load(folder.path(), &options)?;
    let objective = SftObjective::new(decoder.clone(), &tokenizer, &rows, resolved.max_length)?;
    if flags.eval_only {
        let figures = train::evaluate(&objective, resolved.settings.batch_size)?;
        exit::print_line(&serde_json::Value::Object(figures).to_string())?;
        return Ok(exit::DONE);
    }
    if flags.dry_run {
        let tokens = (0..objective.rows()).map(|row| objective.tokens(row)).sum();
        flags.print_plan(&resolved, rows.len(), tokens)?;
        return Ok(exit::DONE);
    }
    let eval = resolved
        .eval_data
        .as_ref()
        .map(|path| -> anyhow::Result<SftObjective> {
            let rows = SftRow::read(path)?;
            Ok(SftObjective::new(decoder, &tokenizer, &rows, resolved.max_length)?)
        })
        .transpose()?;
    let out = flags.out.as_deref().context("--out DIR says where the model goes")?;
    train_to(
        flags,
        &resolved,
        &objective,
        eval.as_ref().map(|eval| eval as &dyn Objective),
        out,
        Some(folder.path()),
    )
}

/// Trains, copies the tokenizer's files of `base`, and prints what came out.
pub(crate) fn train_to(
    flags: &TrainingFlags,
    resolved: &Resolved,
    objective: &dyn Objective,
    eval: Option<&dyn Objective>,
    out: &Path,
    base: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let steps = resolved.settings.steps(objective.rows());
    let progress = Progress::new("train", Some(steps as u64), "steps");
    let report = train::train(objective, eval, &resolved.settings, out, &AtomicBool::new(false), &progress)?;
    progress.finish();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        if let Some(from) = base.map(|base| base.join(name)).filter(|from| from.is_file()) {
            std::fs::copy(&from, out.join(name)).with_context(|| from.display().to_string())?;
        }
    }
    if flags.json {
        let mut object = serde_json::to_value(&report)?;
        object["out"] = json!(out);
        exit::print_line(&object.to_string())?;
    } else {
        exit::print_line(&format!(
            "{} steps over {} rows: loss {:.4}, at the end {:.4}; {}",
            report.steps,
            report.rows,
            report.loss,
            report.final_loss,
            out.display()
        ))?;
    }
    Ok(exit::DONE)
}

fn read(files: &[PathBuf], limit: usize) -> anyhow::Result<Vec<SftRow>> {
    let mut rows = Vec::new();
    for file in files {
        rows.extend(SftRow::read(file)?);
    }
    rows.truncate(limit);
    anyhow::ensure!(
        !rows.is_empty(),
        "no rows: say --data ROWS.jsonl with {{\"prompt\", \"completion\"}} or {{\"text\"}}"
    );
    Ok(rows)
}
