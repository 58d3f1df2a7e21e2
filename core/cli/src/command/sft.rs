//! `sipf sft`: supervised fine-tuning on rows.

use std::process::ExitCode;

use sipf_core::align::{SftObjective, SftRow};
use sipf_core::model::{ModelFolder, Tokenizer};
use sipf_core::train::{Objective, TrainSettings};

use crate::given::Given;
use crate::source;
use crate::training::{Job, Resolved, TrainingFlags, conduct, read_rows};

/// TRL's longest row.
pub(super) const MAX_LENGTH: usize = 1024;

/// Keys that a row may have.
pub(super) const SHAPE: &str = "{\"prompt\", \"completion\"}, {\"text\"} or {\"messages\"}";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    training: TrainingFlags,
}

pub(crate) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    let resolved = args.training.resolve(given, &TrainSettings::default(), None, MAX_LENGTH, &[])?;
    train(given, &args.training, &resolved)
}

/// SFT on the rows of the flags; of preference pairs the chosen halves.
pub(super) fn train(given: &Given, flags: &TrainingFlags, resolved: &Resolved) -> anyhow::Result<ExitCode> {
    let folder = ModelFolder::open(&resolved.model, resolved.settings.seed)?;
    let tokenizer = Tokenizer::load(folder.path())?;
    let mut bad = resolved.bad_rows();
    let rows =
        read_rows(&resolved.data, resolved.limit, SHAPE, |file| SftRow::read(file, &tokenizer, &mut bad))?;
    let decoder = source::load(folder.path(), &resolved.load_options(flags.eval_only))?;
    let length = resolved.max_length;
    let objective = SftObjective::sifted(decoder.clone(), &tokenizer, &rows, length, &mut bad)?;
    let objective = objective.over(&resolved.model);
    let eval = match &resolved.eval_data {
        Some(file) => {
            let rows = SftRow::read(file, &tokenizer, &mut bad)?;
            Some(SftObjective::sifted(decoder, &tokenizer, &rows, length, &mut bad)?)
        }
        None => None,
    };
    let eval = eval.as_ref().map(|eval| eval as &dyn Objective);
    conduct(&Job {
        given,
        flags,
        resolved,
        objective: &objective,
        eval,
        base: Some(folder.path()),
        bad: &bad,
    })
}
