//! `sipf reward train`: a process or outcome reward model from labelled paths.

use std::process::ExitCode;

use serde_json::json;
use sipf_core::model::{Checkpoint, LoraConfig, ModelFolder, Trainable};
use sipf_core::reward::{LabelRow, PrmObjective, RewardNet, RowLayout};
use sipf_core::train::{Objective, TrainSettings};
use sipf_plugin::RewardCard;

use super::DEFAULT;
use crate::exit::eprint_line;
use crate::given::Given;
use crate::open::PluginFlags;
use crate::source;
use crate::training::{Job, TrainingFlags, conduct, read_rows};

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

pub(crate) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    let flags = &args.training;
    let reward = args.plugins.reward(DEFAULT)?;
    let card = reward.card();
    let base = card.bases.values().find_map(|bases| bases.base.clone());
    let own = [
        ("separator", json!("\n"), args.separator.as_ref().map(|text| json!(text))),
        ("last-step-only", json!(false), args.last_step_only.then_some(json!(true))),
        (
            "head-learning-rate",
            json!(card.training.head_learning_rate),
            args.head_learning_rate.map(|rate| json!(rate)),
        ),
    ];
    let mut resolved =
        flags.resolve(given, &defaults(&card), base.as_deref(), card.training.max_length, &own)?;
    let asked_full = flags.is_full(given);
    if card.training.lora_rank > 0 && resolved.options.trainable == Trainable::Full && !asked_full {
        resolved.options.trainable = Trainable::Lora(LoraConfig {
            r: card.training.lora_rank,
            lora_alpha: card.training.lora_alpha,
            lora_dropout: card.training.lora_dropout,
            target_modules: vec!["all-linear".into()],
            ..LoraConfig::default()
        });
    }
    let mut bad = resolved.bad_rows();
    let shape = "{\"prompt\", \"completions\", \"labels\"} or Math-Shepherd's {\"input\", \"label\"}";
    let rows = read_rows(&resolved.data, resolved.limit, shape, |file| LabelRow::sifted(file, &mut bad))?;
    let folder = ModelFolder::open(&resolved.model, resolved.settings.seed)?;
    source::tell_unread(&Checkpoint::open_headless(folder.path())?);
    let mut net = RewardNet::init(folder.path(), &card, &resolved.load_options(flags.eval_only))?;
    net.set_max_length(resolved.max_length);
    let separator: String = resolved.own("separator")?;
    let last_only: bool = resolved.own("last-step-only")?;
    let head_rate: f64 = resolved.own("head-learning-rate")?;
    let holds = head_rate >= 0.0 && head_rate.is_finite();
    sipf_core::Error::unless(holds, "head-learning-rate", head_rate, "0 or more")?;
    let rate = resolved.settings.learning_rate;
    let head_scale = if head_rate > 0.0 && rate > 0.0 { head_rate / rate } else { 1.0 };
    let layout = match card.name == DEFAULT || args.separator.is_some() {
        true => RowLayout::Trl { separator: &separator },
        false => RowLayout::Pieces(&*reward),
    };
    let mut objective = |net: RewardNet, rows: &[LabelRow]| {
        PrmObjective::sifted(net, rows, &layout, last_only, head_scale, &mut bad)
    };
    let eval = match &resolved.eval_data {
        Some(file) => Some(objective(net.clone(), &LabelRow::read(file)?)?),
        None => None,
    };
    let train = objective(net, &rows)?;
    let lost = train.lost();
    if lost.labels > 0 {
        eprint_line(&format!(
            "{} labels of {} rows lie beyond --max-length {} and are not trained on",
            lost.labels, lost.rows, resolved.max_length
        ));
    }
    let eval = eval.as_ref().map(|eval| eval as &dyn Objective);
    conduct(&Job { given, flags, resolved: &resolved, objective: &train, eval, base: None, bad: &bad })
}
