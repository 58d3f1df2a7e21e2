//! Every setting of a run, and how flags, variables, files, cards and defaults lie over one another.
//!
//! A recipe (docs/recipes) is a file of these keys. Nothing here opens a file or looks at the machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::align::{NllScope, PairSettings};
use crate::evaluate::EvaluateSettings;
use crate::model::LoraConfig;
use crate::sample::SampleSettings;
use crate::simulate::SimulateSettings;
use crate::train::{Schedule, TrainSettings};
use crate::{Error, Result};

/// What a run does with its paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Pairs by process reward, ORPO (the paper).
    #[default]
    Sipf,
    /// Pairs by outcome alone, ORPO (the paper's Table 4, without process feedback).
    Siof,
    /// Supervised training on right paths (rejection fine-tuning).
    Rft,
    /// Supervised training on right paths whose every step the reward model takes for right.
    Prft,
}

impl Method {
    /// Whether it needs step labels and a reward model.
    pub fn uses_reward(self) -> bool {
        matches!(self, Self::Sipf | Self::Prft)
    }

    /// Whether it learns from pairs; otherwise from chosen paths alone.
    pub fn uses_pairs(self) -> bool {
        matches!(self, Self::Sipf | Self::Siof)
    }
}

/// Which weights each alignment starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlignFrom {
    /// The base model, as the authors' scripts do.
    #[default]
    Base,
    /// The supervised model.
    Sft,
    /// The model of the iteration before.
    Previous,
}

/// What ranks the paths where a method uses rewards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankBy {
    /// The trained reward model.
    #[default]
    Reward,
    /// The untrained reward base's likelihood of each step, put on the reward model's scale by rank: a control.
    BaseLikelihood,
    /// The supervised policy's own likelihood, likewise: a control.
    PolicyLikelihood,
}

/// Low-rank adapters of the policy; rank 0 trains every weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LoraSection {
    /// Rank; 0: every weight is trained.
    pub r: usize,
    /// Alpha.
    pub alpha: f64,
    /// Dropout in front of A.
    pub dropout: f64,
    /// Layer names, separated by commas, or `all-linear`.
    pub targets: String,
    /// Scale by alpha / sqrt(r).
    pub rslora: bool,
}

impl Default for LoraSection {
    fn default() -> Self {
        Self { r: 0, alpha: 16.0, dropout: 0.0, targets: "all-linear".into(), rslora: false }
    }
}

impl LoraSection {
    /// The adapter's configuration; `None`: every weight is trained.
    pub fn config(&self) -> Option<LoraConfig> {
        (self.r > 0).then(|| LoraConfig {
            r: self.r,
            lora_alpha: self.alpha,
            lora_dropout: self.dropout,
            target_modules: self.targets.split(',').map(|name| name.trim().to_owned()).collect(),
            use_rslora: self.rslora,
            ..LoraConfig::default()
        })
    }
}

/// Supervised fine-tuning of the policy on the task's demonstrations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct SftSection {
    /// `false`: the policy is trained already.
    pub enabled: bool,
    /// The first so many problems of the train split; 0: all.
    pub rows: usize,
    /// Longest row, in tokens.
    pub max_length: usize,
    /// How to train.
    #[serde(flatten)]
    pub train: TrainSettings,
}

impl Default for SftSection {
    /// The authors' script: 8 epochs, batch 2 x 10, 2e-4, 1024 tokens (docs/algorithm.md).
    fn default() -> Self {
        let train = TrainSettings {
            epochs: 8.0,
            batch_size: 2,
            grad_accum: 10,
            learning_rate: 2e-4,
            max_grad_norm: 0.3,
            ..TrainSettings::default()
        };
        Self { enabled: true, rows: 0, max_length: 1024, train }
    }
}

/// Training of the reward model; what the reward card says lies over these defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RewardSection {
    /// Learning rate of the head where it differs; 0: the same.
    pub head_learning_rate: f64,
    /// LoRA rank; 0: every weight is trained.
    pub lora_r: usize,
    /// LoRA alpha.
    pub lora_alpha: f64,
    /// LoRA dropout.
    pub lora_dropout: f64,
    /// Longest sequence, in tokens.
    pub max_length: usize,
    /// Of each hundred labelled questions, so many are kept from training to measure on (the authors: 8).
    pub held_out: usize,
    /// Where `max-steps` is given: no more passes over the labelled paths than this, so that few paths are a short
    /// training; 0: as many as the steps make.
    pub max_epochs: f64,
    /// How to train.
    #[serde(flatten)]
    pub train: TrainSettings,
}

impl Default for RewardSection {
    fn default() -> Self {
        Self {
            head_learning_rate: 0.0,
            lora_r: 0,
            lora_alpha: 0.0,
            lora_dropout: 0.0,
            max_length: 1024,
            held_out: 8,
            max_epochs: 0.0,
            train: TrainSettings { learning_rate: 1e-5, ..TrainSettings::default() },
        }
    }
}

impl RewardSection {
    /// How to train on this many labelled paths.
    pub fn train_on(&self, paths: usize) -> TrainSettings {
        let passes = TrainSettings { max_steps: 0, epochs: self.max_epochs, ..self.train.clone() };
        match self.max_epochs > 0.0 {
            true => TrainSettings {
                max_steps: self.train.max_steps.min(passes.steps(paths).max(1)),
                ..self.train.clone()
            },
            false => self.train.clone(),
        }
    }
}

/// Preference alignment (Eq. 7-8).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AlignSection {
    /// Weight of the odds-ratio term (lambda in the paper).
    pub beta: f64,
    /// Which tokens the likelihood term covers.
    pub nll_scope: NllScope,
    /// Longest row, in tokens.
    pub max_length: usize,
    /// How to train.
    #[serde(flatten)]
    pub train: TrainSettings,
}

impl Default for AlignSection {
    /// The authors' ORPO run: 8 epochs, batch 2 x 10, 8e-5, warm-up .1, clip .3 (docs/algorithm.md).
    fn default() -> Self {
        let train = TrainSettings {
            epochs: 8.0,
            batch_size: 2,
            grad_accum: 10,
            learning_rate: 8e-5,
            warmup_ratio: 0.1,
            lr_schedule: Schedule::Linear,
            max_grad_norm: 0.3,
            ..TrainSettings::default()
        };
        Self { beta: 0.1, nll_scope: NllScope::default(), max_length: 1000, train }
    }
}

/// Which problems each evaluation takes, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EvaluateSection {
    /// The first so many test problems of the task; 0: all.
    pub problems: usize,
    /// The first so many of each transfer task; 0: all.
    pub transfer_problems: usize,
    /// How to draw and judge.
    #[serde(flatten)]
    pub settings: EvaluateSettings,
}

/// Every setting of a run; `run.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RunConfig {
    /// Name of the task.
    pub task: String,
    /// Name of the reward model.
    pub reward_model: String,
    /// What to do with the paths.
    pub method: Method,
    /// The policy's base: a folder, a Hub id, or `tiny`.
    pub model: String,
    /// A PEFT adapter on the policy's base; empty: none.
    pub adapter: String,
    /// Who continues steps: a folder, a Hub id, a bundled name, or `policy` for the run's own supervised model.
    pub simulator: String,
    /// What the reward model is trained from; likewise.
    pub reward_base: String,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Rounds of alignment (the paper: 3).
    pub iterations: usize,
    /// Questions of the loop; 0: the whole train split.
    pub limit: usize,
    /// The loop's questions begin after so many train problems; for endless splits, so that they are new ones.
    pub skip: usize,
    /// Train a control: continued supervised training for as many steps as the first alignment.
    pub control: bool,
    /// Which weights each alignment starts from.
    pub align_from: AlignFrom,
    /// What ranks the paths.
    pub rank_by: RankBy,
    /// The answer rule that `passed` means; empty: the card's.
    pub rule: String,
    /// Adapters of the policy.
    pub lora: LoraSection,
    /// Supervised fine-tuning.
    pub sft: SftSection,
    /// Stage 1.
    pub sample: SampleSettings,
    /// Stage 2.
    pub simulate: SimulateSettings,
    /// Stage 3.
    pub reward: RewardSection,
    /// Which pairs.
    pub pairs: PairSettings,
    /// Stage 4.
    pub align: AlignSection,
    /// Stage 5.
    pub evaluate: EvaluateSection,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            task: String::new(),
            reward_model: String::new(),
            method: Method::default(),
            model: String::new(),
            adapter: String::new(),
            simulator: String::new(),
            reward_base: String::new(),
            seed: 42,
            iterations: 3,
            limit: 0,
            skip: 0,
            control: false,
            align_from: AlignFrom::default(),
            rank_by: RankBy::default(),
            rule: String::new(),
            lora: LoraSection::default(),
            sft: SftSection::default(),
            sample: SampleSettings::default(),
            simulate: SimulateSettings::default(),
            reward: RewardSection::default(),
            pairs: PairSettings::default(),
            align: AlignSection::default(),
            evaluate: EvaluateSection::default(),
        }
    }
}

/// Settings from one place, by dotted key (`align.beta`).
#[derive(Debug, Clone, Default)]
pub struct Layer {
    /// Where they come from, for messages and `--dry-run`.
    pub origin: String,
    /// What a message calls a setting of it; `None`: by origin and key.
    pub called: Option<String>,
    /// Key and value.
    pub settings: BTreeMap<String, Value>,
}

impl Layer {
    /// An empty layer.
    pub fn new(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), ..Self::default() }
    }

    /// The settings of a TOML text.
    ///
    /// # Errors
    /// When it is no TOML.
    pub fn of_toml(origin: impl Into<String>, text: &str) -> Result<Self> {
        let origin = origin.into();
        let table: toml::Table =
            text.parse().map_err(|error| Error::unusable(format!("{origin}: {error}")))?;
        Self::of_table(origin, table)
    }

    /// The settings of a TOML table.
    ///
    /// # Errors
    /// When JSON cannot hold it.
    pub fn of_table(origin: impl Into<String>, table: toml::Table) -> Result<Self> {
        let mut layer = Self::new(origin);
        flatten("", &serde_json::to_value(table)?, &mut layer.settings);
        Ok(layer)
    }

    fn name(&self, key: &str) -> String {
        self.called.clone().unwrap_or_else(|| format!("{}: {key}", self.origin))
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.settings.insert(key.to_owned(), value.into());
    }

    /// Sets a key where there is a value.
    pub fn set_some<T: Into<Value>>(&mut self, key: &str, value: Option<T>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }
}

/// A resolved setting and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Dotted key.
    pub key: String,
    /// Value.
    pub value: Value,
    /// Layer that had the last word.
    pub origin: String,
}

/// Every setting by its dotted key, as it is where nothing is said.
///
/// # Errors
/// Never with settings that JSON can hold.
pub fn defaults() -> Result<BTreeMap<String, Value>> {
    let mut known = BTreeMap::new();
    flatten("", &serde_json::to_value(RunConfig::default())?, &mut known);
    Ok(known)
}

/// Lays the layers over the defaults, the later over the earlier.
///
/// # Errors
/// Names the layer and the key that is unknown, or whose value is of the wrong kind.
pub fn resolve(layers: &[Layer]) -> Result<(RunConfig, Vec<Setting>)> {
    let mut merged: BTreeMap<String, (Value, String)> =
        defaults()?.into_iter().map(|(key, value)| (key, (value, "default".to_owned()))).collect();
    for layer in layers {
        for (key, value) in &layer.settings {
            let key = key.replace('_', "-");
            let Some(entry) = merged.get_mut(&key) else {
                let near = nearest(&key, merged.keys());
                return Err(Error::unusable(format!("{}: unknown setting {key:?}{near}", layer.origin)));
            };
            // TOML knows NaN and infinity, JSON does not.
            if value.is_null() {
                return Err(Error::unusable(format!("{}: it must be a finite number", layer.name(&key))));
            }
            if let Err(error) = read_with(&key, value) {
                return Err(Error::unusable(format!("{} = {value}: {error}", layer.name(&key))));
            }
            *entry = (value.clone(), layer.origin.clone());
        }
    }
    let mut tree = Value::Object(Map::new());
    for (key, (value, _)) in &merged {
        put(&mut tree, key, value.clone());
    }
    let config: RunConfig =
        serde_json::from_value(tree).map_err(|error| Error::unusable(format!("settings: {error}")))?;
    let shown = merged.into_iter().map(|(key, (value, origin))| Setting { key, value, origin }).collect();
    Ok((config, shown))
}

/// Whether the defaults with this one value still read as settings.
fn read_with(key: &str, value: &Value) -> std::result::Result<(), String> {
    let mut tree = serde_json::to_value(RunConfig::default()).map_err(|error| error.to_string())?;
    put(&mut tree, key, value.clone());
    serde_json::from_value::<RunConfig>(tree).map(drop).map_err(|error| error.to_string())
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .min_by_key(|other| {
            sipf_plugin::Signature::distance(key, other)
                .min(3 * sipf_plugin::Signature::distance(&last(key), &last(other)))
        })
        .map(|other| format!("; did you mean {other}?"))
        .unwrap_or_default()
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, into);
            }
        }
        other => drop(into.insert(prefix.to_owned(), other.clone())),
    }
}

fn put(tree: &mut Value, key: &str, value: Value) {
    let mut at = tree;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        let Value::Object(map) = at else { return };
        if parts.peek().is_none() {
            map.insert(part.to_owned(), value);
            return;
        }
        at = map.entry(part).or_insert_with(|| Value::Object(Map::new()));
    }
}

impl RunConfig {
    /// As `run.toml` holds it.
    ///
    /// # Errors
    /// Never with settings that TOML can hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|error| Error::unusable(format!("run.toml: {error}")))
    }

    /// Whether the numbers make sense together.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check(&self) -> Result<()> {
        let (sft, reward, align) = (&self.sft, &self.reward, &self.align);
        self.sample.check().map_err(|error| error.within("sample"))?;
        self.simulate.check().map_err(|error| error.within("simulate"))?;
        self.pairs.check().map_err(|error| error.within("pairs"))?;
        self.evaluate.settings.check().map_err(|error| error.within("evaluate"))?;
        let trainings = [
            ("sft", &sft.train, sft.max_length),
            ("reward", &reward.train, reward.max_length),
            ("align", &align.train, align.max_length),
        ];
        for (name, train, max_length) in trainings {
            let length = Error::unless(max_length > 0, "max-length", max_length, "1 or more");
            length.and_then(|()| train.check()).map_err(|error| error.within(name))?;
        }
        let not_negative =
            |key: &str, value: f64| Error::unless(value >= 0.0 && value.is_finite(), key, value, "0 or more");
        not_negative("align.beta", align.beta)?;
        not_negative("reward.head-learning-rate", reward.head_learning_rate)?;
        not_negative("reward.max-epochs", reward.max_epochs)?;
        let ranks = [
            ("lora.alpha", "lora.dropout", self.lora.r, self.lora.alpha, self.lora.dropout),
            (
                "reward.lora-alpha",
                "reward.lora-dropout",
                reward.lora_r,
                reward.lora_alpha,
                reward.lora_dropout,
            ),
        ];
        for (alpha_key, dropout_key, rank, alpha, dropout) in ranks {
            Error::unless(rank == 0 || (alpha > 0.0 && alpha.is_finite()), alpha_key, alpha, "above 0")?;
            Error::unless((0.0..1.0).contains(&dropout), dropout_key, dropout, "0 or more and below 1")?;
        }
        let range = "below 100: of a hundred questions, some must be left to train on";
        Error::unless(reward.held_out < 100, "reward.held-out", reward.held_out, range)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_and_each_setting_knows_where_it_came_from() {
        let recipe = Layer::of_toml("recipe tiny", "iterations = 5\n[align]\nbeta = 0.2\n").expect("a layer");
        let mut flags = Layer::new("flag");
        flags.set("align.beta", 0.5);
        let (config, shown) = resolve(&[recipe, flags]).expect("settings");
        assert_eq!((config.iterations, config.align.beta), (5, 0.5));
        let origin = |key: &str| shown.iter().find(|s| s.key == key).map(|s| s.origin.as_str());
        assert_eq!(origin("iterations"), Some("recipe tiny"));
        assert_eq!(origin("align.beta"), Some("flag"));
        assert_eq!(origin("seed"), Some("default"));
    }

    #[test]
    fn unknown_keys_and_wrong_kinds_are_named_with_their_file() {
        let error = |text: &str| {
            let layer = Layer::of_toml("my.toml", text).expect("TOML");
            resolve(&[layer]).expect_err("refused").to_string()
        };
        let unknown = error("[align]\nbetta = 1.0\n");
        assert!(unknown.contains("my.toml") && unknown.contains("align.beta?"), "{unknown}");
        let wrong = error("iterations = \"many\"\n");
        assert!(wrong.contains("iterations") && wrong.contains("many"), "{wrong}");
        let method = error("method = \"magic\"\n");
        assert!(method.contains("sipf") && method.contains("magic"), "{method}");
    }

    #[test]
    fn few_labelled_paths_are_a_short_training_of_the_reward_model() {
        let train = TrainSettings { max_steps: 300, batch_size: 32, ..TrainSettings::default() };
        let section = RewardSection { max_epochs: 10.0, train, ..RewardSection::default() };
        assert_eq!(
            [3000, 929, 928, 50, 0].map(|paths| section.train_on(paths).steps(paths)),
            [300, 300, 290, 20, 1]
        );
        let unbounded = RewardSection { max_epochs: 0.0, ..section.clone() };
        assert_eq!(unbounded.train_on(50), unbounded.train);
        let by_epochs = TrainSettings { max_steps: 0, ..section.train.clone() };
        let section = RewardSection { train: by_epochs, ..section };
        assert_eq!(section.train_on(50), section.train);
    }

    #[test]
    fn run_toml_reads_back_as_the_same_settings() {
        let config = RunConfig { task: "sums".into(), iterations: 2, ..RunConfig::default() };
        let layer = Layer::of_toml("run.toml", &config.to_toml().expect("TOML")).expect("a layer");
        assert_eq!(resolve(&[layer]).expect("settings").0, config);
    }
}
