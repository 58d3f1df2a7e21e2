//! Flags of `run` and `plan`, and how they lie over variables, `--config`, the recipe and the cards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use sipf_core::config::{self, Layer, RunConfig, Setting};
use sipf_plugin::{RewardModel, Task, TaskCard};
use sipf_plugin_host::registry::{BUILTIN, is_path};

use crate::open::PluginFlags;
use crate::recipe;

/// The task where none is named: needs nothing.
const DEFAULT_TASK: &str = "arith";
/// The reward model where neither flag nor card names one.
const DEFAULT_REWARD: &str = "prm-trl";
/// The bundled policy, and the recipe made for it.
const TINY: &str = "tiny";
/// The run's own supervised model as simulator or reward base.
pub(crate) const POLICY: &str = "policy";

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RunFlags {
    /// Task, by name or plugin file [default: arith]
    #[arg(long, value_name = "T", env = "SIPF_TASK")]
    pub(crate) task: Option<String>,
    #[command(flatten)]
    pub(crate) plugins: PluginFlags,
    /// The policy: a folder, a Hub id (owner/name@revision) or tiny
    #[arg(long, value_name = "M", env = "SIPF_MODEL")]
    model: Option<String>,
    /// Who continues steps: a folder, a Hub id, tiny, or policy for the run's own supervised model
    #[arg(long, value_name = "M", env = "SIPF_SIMULATOR")]
    simulator: Option<String>,
    /// What the reward model is trained from; likewise
    #[arg(long, value_name = "M", env = "SIPF_REWARD_BASE")]
    reward_base: Option<String>,
    /// A recipe of docs/recipes, by name
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// Settings in TOML, laid over the recipe
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// One setting by its dotted key, as in the recipe (may stand several times)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Data folder or file [default: published files, from the Hub]
    #[arg(long, value_name = "D", env = "SIPF_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// sipf, siof (outcome alone), rft or prft (supervised on chosen paths)
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Rounds of alignment
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    /// Paths drawn at once for a question
    #[arg(long, value_name = "N")]
    samples_per_question: Option<u64>,
    /// Distinct right paths wanted of a question
    #[arg(long, value_name = "N")]
    positives: Option<u64>,
    /// Distinct wrong paths wanted of a question
    #[arg(long, value_name = "N")]
    negatives: Option<u64>,
    /// Sampling temperature
    #[arg(long, value_name = "F")]
    temperature: Option<f64>,
    /// Rollouts of a step (K)
    #[arg(long, value_name = "K")]
    rollouts: Option<u64>,
    /// A step is right when more than so many rollouts are
    #[arg(long, value_name = "MU")]
    threshold: Option<u64>,
    /// Run all K rollouts of every step
    #[arg(long)]
    full_counts: bool,
    /// Least reward that a chosen path is ahead by (eta)
    #[arg(long, value_name = "ETA")]
    margin: Option<f64>,
    /// outcome_and_margin or margin_only
    #[arg(long, value_name = "NAME")]
    pair_policy: Option<String>,
    /// Most pairs of a question
    #[arg(long, value_name = "N")]
    pairs_per_question: Option<u64>,
    /// Weights that each alignment starts from: base, sft or previous
    #[arg(long, value_name = "FROM")]
    align_from: Option<String>,
    /// Paths with a false equation: off, chosen or both (are dropped)
    #[arg(long, value_name = "WHICH")]
    equation_filter: Option<String>,
    /// Problems of every evaluation
    #[arg(long, value_name = "N")]
    eval_limit: Option<u64>,
    /// Train a control too: continued supervised training for as many steps
    #[arg(long, overrides_with = "no_control")]
    control: bool,
    /// Train no control
    #[arg(long)]
    no_control: bool,
    /// Answer rule that counts
    #[arg(long, value_name = "R")]
    rule: Option<String>,
    /// First so many questions; caps supervised rows and evaluations too
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", env = "SIPF_SEED")]
    seed: Option<u64>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "D", default_value = "auto", env = "SIPF_DEVICE")]
    pub(crate) device: String,
    /// Threads; the results do not depend on it
    #[arg(long, value_name = "N", env = "SIPF_THREADS")]
    pub(crate) threads: Option<usize>,
}

/// Everything that a run needs to know before it starts.
pub(crate) struct Resolved {
    pub(crate) config: RunConfig,
    /// Every setting and where it came from.
    pub(crate) settings: Vec<Setting>,
    pub(crate) task: Arc<dyn Task>,
    pub(crate) transfer: Vec<Arc<dyn Task>>,
    pub(crate) reward: Arc<dyn RewardModel>,
    /// What the plugins are made of, hashed: their results change with it.
    pub(crate) plugin_hash: String,
}

impl RunFlags {
    /// Resolves everything. `earlier` are the settings of a run that is gone on with.
    pub(crate) fn resolve(&self, earlier: Option<Layer>) -> anyhow::Result<Resolved> {
        let registry = self.plugins.registry()?;
        let said = |key: &str| {
            earlier.as_ref().and_then(|layer| layer.settings.get(key)?.as_str().map(str::to_owned))
        };
        let task_name = self.task.clone().or_else(|| said("task")).unwrap_or_else(|| DEFAULT_TASK.into());
        let task = registry.task(&task_name).context("--task")?;
        let card = task.card();
        let wanted =
            said("reward-model").or_else(|| card.reward.clone()).unwrap_or_else(|| DEFAULT_REWARD.into());
        let reward = self.plugins.reward(&wanted).context("--plugin")?;
        let transfer = card
            .transfer
            .iter()
            .map(|name| registry.task(name).with_context(|| format!("transfer task of {}", card.name)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut layers = vec![card_layer(&card, &*reward)];
        match earlier {
            Some(earlier) => layers.push(earlier),
            None => layers.extend(self.recipe_layer(&card)?),
        }
        if let Some(path) = &self.config {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("--config {}", path.display()))?;
            layers.push(Layer::of_toml(path.display().to_string(), &text)?);
        }
        layers.push(self.flag_layer()?);
        let mut names = Layer::new("names");
        names.set("task", card.name.clone());
        names.set("reward-model", reward.card().name);
        layers.push(names);
        let (mut config, mut settings) = config::resolve(&layers)?;
        self.settle(&mut config, &card)?;
        for setting in &mut settings {
            if let Some(value) = value_at(&serde_json::to_value(&config)?, &setting.key)
                && value != setting.value
            {
                setting.value = value;
            }
        }
        config.check()?;
        let plugin_hash = self.plugin_hash(&task_name, &reward.card().name)?;
        Ok(Resolved { config, settings, task, transfer, reward, plugin_hash })
    }

    /// The named recipe; the one for `tiny` where the policy is `tiny`; else the task's own.
    fn recipe_layer(&self, card: &TaskCard) -> anyhow::Result<Option<Layer>> {
        let tiny = self.model.as_deref() == Some(TINY);
        let name = match (&self.recipe, tiny) {
            (Some(name), _) => Some(name.clone()),
            (None, true) => Some(TINY.to_owned()),
            (None, false) => card.recipe.clone(),
        };
        let Some(name) = name else { return Ok(None) };
        Ok(Some(Layer::of_toml(format!("recipe {name}"), recipe::text(&name)?)?))
    }

    fn flag_layer(&self) -> anyhow::Result<Layer> {
        let mut flags = Layer::new("flag");
        flags.set_some("model", self.model.clone());
        flags.set_some("simulator", self.simulator.clone());
        flags.set_some("reward-base", self.reward_base.clone());
        flags.set_some("method", self.method()?);
        flags.set_some("iterations", self.iterations);
        flags.set_some("sample.wave", self.samples_per_question);
        flags.set_some("sample.positives", self.positives);
        flags.set_some("sample.negatives", self.negatives);
        flags.set_some("sample.temperature", self.temperature);
        flags.set_some("simulate.rollouts", self.rollouts);
        flags.set_some("simulate.threshold", self.threshold);
        flags.set_some("simulate.full-counts", self.full_counts.then_some(true));
        flags.set_some("pairs.margin", self.margin);
        flags.set_some("pairs.policy", self.pair_policy.clone());
        flags.set_some("pairs.pairs-per-question", self.pairs_per_question);
        flags.set_some("align-from", self.align_from.clone());
        if let Some(filter) = &self.equation_filter {
            flags.set("sample.equation-filter", filter.clone());
            flags.set("pairs.equation-filter", filter.clone());
        }
        flags.set_some("evaluate.problems", self.eval_limit);
        flags.set_some("evaluate.transfer-problems", self.eval_limit);
        flags.set_some("control", self.control.then_some(true).or(self.no_control.then_some(false)));
        flags.set_some("rule", self.rule.clone());
        flags.set_some("seed", self.seed);
        for text in &self.set {
            let (key, value) = text
                .split_once('=')
                .with_context(|| format!("--set {text}: say KEY=VALUE, for example align.beta=0.2"))?;
            flags.set(key.trim(), parse_value(value.trim()));
        }
        Ok(flags)
    }

    fn method(&self) -> anyhow::Result<Option<String>> {
        const LATER: [&str; 5] = ["rpo", "srf", "psrf", "star", "sft"];
        match self.method.as_deref() {
            Some(name) if LATER.contains(&name) => {
                bail!("--method {name}: not yet; there are sipf, siof, rft and prft")
            }
            other => Ok(other.map(str::to_owned)),
        }
    }

    /// What depends on several settings together.
    fn settle(&self, config: &mut RunConfig, card: &TaskCard) -> anyhow::Result<()> {
        let strong = card.bundled.get("strong").cloned().unwrap_or_else(|| POLICY.to_owned());
        for name in [&mut config.simulator, &mut config.reward_base] {
            if *name == TINY || name.is_empty() {
                *name =
                    if *name == TINY || config.model == TINY { strong.clone() } else { POLICY.to_owned() };
            }
        }
        ensure!(
            !config.model.is_empty(),
            "task {} names no model: give --model FOLDER, a Hub id, or --model tiny",
            card.name
        );
        if let Some(limit) = self.limit.map(|limit| limit as usize) {
            ensure!(limit > 0, "--limit is 0; it must be 1 or more");
            let cap = |value: &mut usize| *value = if *value == 0 { limit } else { (*value).min(limit) };
            cap(&mut config.limit);
            cap(&mut config.sft.rows);
            if self.eval_limit.is_none() {
                cap(&mut config.evaluate.problems);
                cap(&mut config.evaluate.transfer_problems);
            }
        }
        Ok(())
    }

    fn plugin_hash(&self, task: &str, reward: &str) -> anyhow::Result<String> {
        let mut parts = vec![format!("{}/{task}/{reward}", env!("CARGO_PKG_VERSION"))];
        let files = self.plugins.plugins.iter().map(String::as_str).chain([task]);
        for file in files.filter(|name| is_path(name) && !name.starts_with(BUILTIN)) {
            parts.push(sipf_core::run_dir::hash_file(Path::new(file))?);
        }
        // A plugin file is known by its contents, not by where it lies.
        if is_path(task) {
            parts[0] = env!("CARGO_PKG_VERSION").to_owned();
        }
        Ok(sipf_core::run_dir::hash_rows(&parts)?)
    }
}

/// What task and reward model suggest.
fn card_layer(card: &TaskCard, reward: &dyn RewardModel) -> Layer {
    let mut layer = Layer::new("card");
    layer.set_some("model", card.model.clone());
    layer.set("sample.temperature", f64::from(card.temperature));
    let simulator =
        if card.simulator_temperature > 0.0 { card.simulator_temperature } else { card.temperature };
    layer.set("simulate.temperature", f64::from(simulator));
    layer.set("simulate.max-chance", f64::from(card.max_chance));
    for section in ["sample", "simulate", "evaluate"] {
        layer.set(&format!("{section}.max-tokens"), card.max_tokens);
        layer.set(&format!("{section}.stop"), json!(card.stop));
    }
    layer.set("sample.positives", card.positives);
    layer.set("sample.negatives", card.negatives);
    layer.set("sample.equation-filter", card.equation_filter.clone());
    layer.set("pairs.equation-filter", card.equation_filter.clone());
    let reward = reward.card();
    let bases = reward.bases.get(&card.domain);
    layer.set_some("simulator", bases.and_then(|bases| bases.simulator.clone()));
    layer.set_some("reward-base", bases.and_then(|bases| bases.base.clone()));
    layer.set("simulate.gold", reward.with_gold);
    let training = &reward.training;
    layer.set("reward.learning-rate", training.learning_rate);
    layer.set("reward.head-learning-rate", training.head_learning_rate);
    layer.set("reward.batch-size", training.batch);
    layer.set("reward.epochs", training.epochs);
    layer.set("reward.max-steps", training.max_steps);
    layer.set("reward.warmup-ratio", training.warmup_ratio);
    layer.set("reward.max-grad-norm", training.max_grad_norm);
    layer.set("reward.weight-decay", training.weight_decay);
    layer.set("reward.lora-r", training.lora_rank);
    layer.set("reward.lora-alpha", training.lora_alpha);
    layer.set("reward.lora-dropout", training.lora_dropout);
    layer.set("reward.max-length", training.max_length);
    layer
}

/// A value as TOML would read it; text where it does not.
fn parse_value(text: &str) -> Value {
    let table: Result<toml::Table, _> = format!("value = {text}").parse();
    let value = table.ok().and_then(|table| serde_json::to_value(table.get("value")?).ok());
    value.unwrap_or_else(|| json!(text))
}

fn value_at(tree: &Value, key: &str) -> Option<Value> {
    key.split('.').try_fold(tree, |at, part| at.get(part)).cloned()
}
