//! `sipf reward train`: a process or outcome reward model from labelled paths.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;
use sipf_core::model::{LoadOptions, LoraConfig, ModelFolder, Trainable};
use sipf_core::reward::{LabelRow, PrmObjective, RewardNet, RowLayout};
use sipf_core::train::{self, Objective, TrainSettings};
use sipf_plugin::RewardCard;

use super::{DEFAULT, read_all};
use crate::command::sft::train_to;
use crate::exit;
use crate::open::PluginFlags;
use crate::training::TrainingFlags;

/// Keys of `--config` that only this command knows.
const KEYS: [&str; 3] = ["separator", "last-step-only", "head-learning-rate"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    training: TrainingFlags,
    #[command(flatten)]
    plugins: PluginFlags,
    /// Text after every step, where no --plugin lays paths out [default: a line break]
    #[arg(long, value_name = "TEXT")]
    separator: Option<String>,
    /// Train on the last step of each path only (an outcome model)
    #[arg(long)]
    last_step_only: bool,
    /// Learning rate of the head, where it differs
    #[arg(long, value_name = "F")]
    head_learning_rate: Option<f64>,
}

/// The card's training defaults over TRL's.
fn defaults(card: &RewardCard) -> TrainSettings {
    let card = &card.training;
    TrainSettings {
        max_steps: card.max_steps,
        epochs: card.epochs,
        batch_size: card.batch,
        learning_rate: card.learning_rate,
        weight_decay: card.weight_decay,
        warmup_ratio: card.warmup_ratio,
        max_grad_norm: card.max_grad_norm,
        ..TrainSettings::default()
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flags = &args.training;
    let reward = args.plugins.reward(DEFAULT)?;
    let card = reward.card();
    let base = card.bases.values().find_map(|bases| bases.base.clone());
    let mut resolved = flags.resolve(&defaults(&card), base.as_deref(), card.training.max_length, &KEYS)?;
    let asked_full = flags.full;
    if card.training.lora_rank > 0 && resolved.options.trainable == Trainable::Full && !asked_full {
        resolved.options.trainable = Trainable::Lora(LoraConfig {
            r: card.training.lora_rank,
            lora_alpha: card.training.lora_alpha,
            lora_dropout: card.training.lora_dropout,
            target_modules: vec!["all-linear".into()],
            ..LoraConfig::default()
        });
    }
    let rows = read_all(&resolved.data, Some(resolved.limit), LabelRow::read)?;
    let folder = ModelFolder::open(&resolved.model, resolved.settings.seed)?;
    let options = match flags.eval_only {
        true => LoadOptions { trainable: Trainable::Frozen, ..resolved.options.clone() },
        false => resolved.options.clone(),
    };
    let mut net = RewardNet::init(folder.path(), &card, &options)?;
    net.set_max_length(resolved.max_length);
    let own = |key: &str| resolved.extra.get(key);
    let separator = args
        .separator
        .clone()
        .or_else(|| own("separator").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_else(|| "\n".into());
    let last_only = args.last_step_only || own("last-step-only") == Some(&Value::Bool(true));
    let head_rate = args
        .head_learning_rate
        .or_else(|| own("head-learning-rate").and_then(Value::as_f64))
        .unwrap_or(card.training.head_learning_rate);
    let rate = resolved.settings.learning_rate;
    let head_scale = if head_rate > 0.0 && rate > 0.0 { head_rate / rate } else { 1.0 };
    let layout = match card.name == DEFAULT || args.separator.is_some() {
        true => RowLayout::Trl { separator: &separator },
        false => RowLayout::Pieces(&*reward),
    };
    let objective = PrmObjective::new(net, &rows, &layout, last_only, head_scale)?;
    if flags.eval_only {
        let figures = train::evaluate(&objective, resolved.settings.batch_size)?;
        exit::print_line(&Value::Object(figures).to_string())?;
        return Ok(exit::DONE);
    }
    if flags.dry_run {
        let tokens = (0..objective.rows()).map(|row| objective.tokens(row)).sum();
        flags.print_plan(&resolved, rows.len(), tokens)?;
        return Ok(exit::DONE);
    }
    let out = flags.out.as_deref().context("--out DIR says where the reward model goes")?;
    train_to(flags, &resolved, &objective, None, out, None)
}
