//! Flags of `run` and `plan`, and how what is given lies over the recipe and the cards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::{Value, json};
use sipf_core::config::{self, Layer, RunConfig, Setting};
use sipf_core::model::ModelFolder;
use sipf_plugin::{RewardModel, Source, Split, Task, TaskCard};
use sipf_plugin_host::registry::{BUILTIN, is_path};

use crate::given::{Given, Origin, at_least_one, variable_of};
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

/// Flags that are a setting of a run, and its key.
const FLAGS: [(&str, &str); 26] = [
    ("task", "task"),
    ("model", "model"),
    ("adapter", "adapter"),
    ("simulator", "simulator"),
    ("reward-base", "reward-base"),
    ("method", "method"),
    ("iterations", "iterations"),
    ("samples-per-question", "sample.wave"),
    ("positives", "sample.positives"),
    ("negatives", "sample.negatives"),
    ("temperature", "sample.temperature"),
    ("rollouts", "simulate.rollouts"),
    ("threshold", "simulate.threshold"),
    ("full-counts", "simulate.full-counts"),
    ("margin", "pairs.margin"),
    ("pair-policy", "pairs.policy"),
    ("pairs-per-question", "pairs.pairs-per-question"),
    ("align-from", "align-from"),
    ("equation-filter", "sample.equation-filter"),
    ("equation-filter", "pairs.equation-filter"),
    ("eval-limit", "evaluate.problems"),
    ("eval-limit", "evaluate.transfer-problems"),
    ("control", "control"),
    ("rule", "rule"),
    ("limit", "limit"),
    ("seed", "seed"),
];

/// What to call a setting of this key and origin: by its flag, variable or file.
fn as_given(key: &str, origin: &str) -> String {
    let flag = FLAGS.iter().find(|(_, setting)| *setting == key);
    match (flag, origin.strip_prefix("variable "), origin) {
        (_, Some(name), _) => name.to_owned(),
        (Some((flag, _)), _, "flag") => format!("--{flag}"),
        (None, _, "flag") => format!("--set {key}"),
        (Some((flag, _)), _, "default") => format!("--{flag}"),
        (_, _, "default") => key.to_owned(),
        (_, _, origin) => format!("{origin}: {key}"),
    }
}

/// The same for what a flag or another layer said.
fn called(given: &Given, long: &str, origin: &str) -> String {
    match given.origin(long) {
        Origin::Default => as_given(long, origin),
        _ => given.name(long),
    }
}

/// Name, value and origin of everything that was resolved, the flags that are no setting of a run behind.
pub(crate) fn shown(given: &Given, resolved: &Resolved) -> Vec<(String, Value, String)> {
    let settings = resolved.settings.iter();
    let settings =
        settings.map(|setting| (setting.key.clone(), setting.value.clone(), setting.origin.clone()));
    let known = FLAGS.iter().map(|(flag, _)| *flag).collect();
    settings.chain(given.others(&known)).collect()
}

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RunFlags {
    /// Task, by name or plugin file [default: arith]
    #[arg(long, value_name = "T")]
    pub(crate) task: Option<String>,
    #[command(flatten)]
    pub(crate) plugins: PluginFlags,
    /// The policy: a folder, a Hub id (owner/name@revision) or tiny
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// PEFT adapter on the policy: the run begins with it and trains it on
    #[arg(long, value_name = "DIR")]
    adapter: Option<String>,
    /// Who continues steps: a folder, a Hub id, tiny, or policy for the run's own supervised model
    #[arg(long, value_name = "M")]
    simulator: Option<String>,
    /// What the reward model is trained from; likewise
    #[arg(long, value_name = "M")]
    reward_base: Option<String>,
    /// A recipe of docs/recipes, by name
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// One setting by its dotted key, as in the recipe (may stand several times)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Data folder or file [default: published files, from the Hub]
    #[arg(long, value_name = "D")]
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
    #[arg(long, value_name = "N", value_parser = at_least_one::<u64>())]
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
    #[arg(long, value_name = "N", value_parser = at_least_one::<u64>())]
    pub(crate) limit: Option<u64>,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "D", default_value = "auto")]
    pub(crate) device: String,
    /// Threads; the results do not depend on it
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
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
    pub(crate) fn resolve(&self, given: &Given, earlier: Option<Layer>) -> anyhow::Result<Resolved> {
        let registry = self.plugins.registry()?;
        let config = match given.config() {
            Some(config) => Some(Layer::of_table(config.origin().to_string(), config.keys.clone())?),
            None => None,
        };
        // The last word on what the layers below are chosen by.
        let said = |key: &str| {
            let variable = std::env::var(variable_of(key)).ok().filter(|text| !text.is_empty());
            let layers = [config.as_ref(), earlier.as_ref()].into_iter().flatten();
            let mut texts = layers.filter_map(|layer| {
                Some((layer.settings.get(key)?.as_str()?.to_owned(), layer.origin.clone()))
            });
            let variable = variable.map(|text| (text, format!("variable {}", variable_of(key))));
            variable.or_else(|| texts.next())
        };
        let flag = |key: &str, value: &Option<String>| {
            value.clone().map(|value| (value, given.origin(key).to_string())).or_else(|| said(key))
        };
        let (task_name, task_origin) =
            flag("task", &self.task).unwrap_or_else(|| (DEFAULT_TASK.into(), "default".into()));
        let task = registry.task(&task_name).with_context(|| called(given, "task", &task_origin))?;
        let card = task.card();
        for (split, why) in [(Split::Train, "nothing to learn from"), (Split::Test, "nothing to measure on")]
        {
            ensure!(
                !matches!(task.source(split)?, Source::Missing),
                "{}: task {} has no {split} split, so there is {why}; name another task (sipf task list)",
                called(given, "task", &task_origin),
                card.name
            );
        }
        let (wanted, mut reward_origin) = said("reward-model")
            .or_else(|| card.reward.clone().map(|name| (name, "card".into())))
            .unwrap_or_else(|| (DEFAULT_REWARD.into(), "default".into()));
        let reward = self.plugins.reward(&wanted).context("--plugin")?;
        if reward.card().name != wanted {
            reward_origin = given.origin("plugin").to_string();
        }
        let transfer = card
            .transfer
            .iter()
            .map(|name| registry.task(name).with_context(|| format!("transfer task of {}", card.name)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut layers = vec![card_layer(&card, &*reward)];
        let model = flag("model", &self.model).map(|(model, _)| model);
        match earlier.clone() {
            Some(earlier) => layers.push(earlier),
            None => layers.extend(self.recipe_layer(&card, model.as_deref())?),
        }
        layers.extend(config.clone());
        layers.extend(self.given_layers(given)?);
        for (key, name, origin) in
            [("task", card.name.clone(), task_origin), ("reward-model", reward.card().name, reward_origin)]
        {
            let mut layer = Layer::new(origin);
            layer.set(key, name);
            layers.push(layer);
        }
        let (mut config, mut settings) = config::resolve(&layers)?;
        self.settle(&mut config, &card)?;
        const LIMITED: [&str; 4] = ["limit", "sft.rows", "evaluate.problems", "evaluate.transfer-problems"];
        let limited = self.limit.map(|_| (LIMITED, given.origin("limit").to_string()));
        for setting in &mut settings {
            if let Some(value) = value_at(&serde_json::to_value(&config)?, &setting.key)
                && value != setting.value
            {
                setting.value = value;
                if let Some((_, origin)) = limited.as_ref().filter(|(keys, _)| keys.contains(&&*setting.key))
                {
                    setting.origin = origin.clone();
                }
            }
        }
        self.check(&config, &settings)?;
        let plugin_hash = self.plugin_hash(&task_name, &reward.card().name)?;
        Ok(Resolved { config, settings, task, transfer, reward, plugin_hash })
    }

    /// Whether the numbers make sense and models can be what they are said to be; what does not is called as it was given.
    fn check(&self, config: &RunConfig, settings: &[Setting]) -> anyhow::Result<()> {
        let origin = |key: &str| {
            let found = settings.iter().find(|setting| setting.key == key);
            found.map(|setting| setting.origin.as_str()).unwrap_or_default()
        };
        if let Err(error) = config.check() {
            let sipf_core::Error::Setting { key, value, range } = &error else { return Err(error.into()) };
            bail!("{} is {value}; it must be {range}", as_given(key, origin(key)));
        }
        for (key, name) in
            [("model", &config.model), ("simulator", &config.simulator), ("reward-base", &config.reward_base)]
        {
            if key == "model" || name != POLICY {
                ModelFolder::check(name)
                    .map_err(|error| anyhow!("{}: {error}", as_given(key, origin(key))))?;
            }
        }
        ensure!(
            config.adapter.is_empty() || Path::new(&config.adapter).join("adapter_config.json").is_file(),
            "{} {}: holds no adapter_config.json; give the folder that PEFT or sipf wrote",
            as_given("adapter", origin("adapter")),
            config.adapter
        );
        let asked = ["flag", "variable"].iter().any(|place| origin("control").starts_with(place));
        ensure!(
            config.iterations > 0 || !config.control || !asked,
            "{}: a control is trained for as many steps as the first iteration, and --iterations is 0",
            as_given("control", origin("control"))
        );
        Ok(())
    }

    /// The named recipe; the one for `tiny` where the policy is `tiny`; else the task's own.
    fn recipe_layer(&self, card: &TaskCard, model: Option<&str>) -> anyhow::Result<Option<Layer>> {
        let tiny = model == Some(TINY);
        let name = match (&self.recipe, tiny) {
            (Some(name), _) => Some(name.clone()),
            (None, true) => Some(TINY.to_owned()),
            (None, false) => card.recipe.clone(),
        };
        let Some(name) = name else { return Ok(None) };
        Ok(Some(Layer::of_toml(format!("recipe {name}"), recipe::text(&name)?)?))
    }

    /// What flags, variables and keys under the flags' names say, the weakest first.
    fn given_layers(&self, given: &Given) -> anyhow::Result<Vec<Layer>> {
        let mut layers: Vec<(Origin, Layer)> = Vec::new();
        let mut put = |key: &str, origin: Origin, value: Option<Value>| {
            if let Some(value) = value {
                let mut layer = Layer::new(origin.to_string());
                layer.called = Some(as_given(key, &layer.origin));
                layer.set(key, value);
                layers.push((origin, layer));
            }
        };
        for key in config::defaults()?.into_keys().filter(|key| !FLAGS.iter().any(|(flag, _)| flag == key)) {
            let name = variable_of(&key);
            let value = std::env::var(&name).ok().filter(|text| !text.is_empty());
            put(&key, Origin::Variable(name), value.map(|text| parse_value(&text)));
        }
        let control = match self.no_control {
            true => Some(false),
            false => self.control.then_some(true),
        };
        let values = [
            ("model", self.model.clone().map(Value::from)),
            ("adapter", self.adapter.clone().map(Value::from)),
            ("simulator", self.simulator.clone().map(Value::from)),
            ("reward-base", self.reward_base.clone().map(Value::from)),
            ("method", self.method(given)?.map(Value::from)),
            ("iterations", self.iterations.map(Value::from)),
            ("samples-per-question", self.samples_per_question.map(Value::from)),
            ("positives", self.positives.map(Value::from)),
            ("negatives", self.negatives.map(Value::from)),
            ("temperature", self.temperature.map(Value::from)),
            ("rollouts", self.rollouts.map(Value::from)),
            ("threshold", self.threshold.map(Value::from)),
            ("full-counts", self.full_counts.then_some(true.into())),
            ("margin", self.margin.map(Value::from)),
            ("pair-policy", self.pair_policy.clone().map(Value::from)),
            ("pairs-per-question", self.pairs_per_question.map(Value::from)),
            ("align-from", self.align_from.clone().map(Value::from)),
            ("equation-filter", self.equation_filter.clone().map(Value::from)),
            ("eval-limit", self.eval_limit.map(Value::from)),
            ("control", control.map(Value::from)),
            ("rule", self.rule.clone().map(Value::from)),
            ("seed", self.seed.map(Value::from)),
        ];
        for (long, value) in values {
            let origin = match long == "control" && self.no_control {
                true => Origin::Flag,
                false => given.origin(long),
            };
            for (_, key) in FLAGS.iter().filter(|(flag, _)| *flag == long) {
                put(key, origin.clone(), value.clone());
            }
        }
        for text in &self.set {
            let (key, value) = text
                .split_once('=')
                .with_context(|| format!("--set {text}: say KEY=VALUE, for example align.beta=0.2"))?;
            put(key.trim(), Origin::Flag, Some(parse_value(value.trim())));
        }
        // Stable: of two words of one rank the later stays the later.
        layers.sort_by_key(|(origin, _)| match origin {
            Origin::Default => 0,
            Origin::Config(_) => 1,
            Origin::Variable(_) => 2,
            Origin::Flag => 3,
        });
        Ok(layers.into_iter().map(|(_, layer)| layer).collect())
    }

    fn method(&self, given: &Given) -> anyhow::Result<Option<String>> {
        const LATER: [&str; 5] = ["rpo", "srf", "psrf", "star", "sft"];
        match self.method.as_deref() {
            Some(name) if LATER.contains(&name) => {
                bail!("{} {name}: not yet; there are sipf, siof, rft and prft", given.name("method"))
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
