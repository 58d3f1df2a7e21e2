//! What a plugin says about itself: names, defaults and where things are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::check::Limits;
use crate::layout::{Aggregate, Marker, Readout};

/// The kind of reasoning; reward models name a base checkpoint for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Domain {
    /// Mathematics.
    Math,
    /// Programs.
    Code,
    /// Anything else.
    #[default]
    #[serde(other)]
    Other,
}

/// The task's headline number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Unbiased pass@k over the prompts of a group (problems with the same `extra.group`).
    PassAtK,
    /// Share of greedy completions that pass.
    #[default]
    #[serde(other)]
    Accuracy,
}

/// Everything about a task that is not a function. A card on the wire may leave out all but its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskCard {
    /// Name: `[a-z0-9][a-z0-9.-]*`.
    pub name: String,
    /// One line for lists.
    pub summary: String,
    /// Kind of reasoning.
    pub domain: Domain,
    /// Headline number.
    pub metric: Metric,
    /// Sampling temperature.
    pub temperature: f32,
    /// Simulator's temperature; 0 means the sampling temperature.
    pub simulator_temperature: f32,
    /// Most new tokens of a completion.
    pub max_tokens: usize,
    /// Texts at which a completion ends (and is cut).
    pub stop: Vec<String>,
    /// Tasks evaluated beside this one, out of domain.
    pub transfer: Vec<String>,
    /// Names of the answer rules, empty where there is only one way to be right.
    pub rules: Vec<String>,
    /// The rule that `passed` means; one of `rules`.
    pub rule: String,
    /// Between few-shot examples.
    pub shot_separator: String,
    /// Problems with a higher chance of a blind guess are not labelled by simulation.
    pub max_chance: f32,
    /// How many right paths to keep per question in the first round.
    pub positives: usize,
    /// How many wrong paths to keep per question in the first round.
    pub negatives: usize,
    /// Whether paths with a flaw named by their signature are dropped: `off`, `chosen` or `both`.
    pub equation_filter: String,
    /// Limits for programs; zeros mean the sandbox's defaults.
    pub limits: Limits,
    /// Where a model of this task is bundled: role (`strong`) to name.
    pub bundled: BTreeMap<String, String>,
    /// Recipe used when none is named.
    pub recipe: Option<String>,
    /// Reward model used when none is named.
    pub reward: Option<String>,
    /// Policy used when none is named.
    pub model: Option<String>,
}

impl Default for TaskCard {
    /// The defaults of `docs/write-a-task.md`, without a name.
    fn default() -> Self {
        Self {
            name: String::new(),
            summary: String::new(),
            domain: Domain::Other,
            metric: Metric::Accuracy,
            temperature: 1.0,
            simulator_temperature: 0.0,
            max_tokens: 512,
            stop: Vec::new(),
            transfer: Vec::new(),
            rules: Vec::new(),
            rule: String::new(),
            shot_separator: "\n\n".into(),
            max_chance: 0.2,
            positives: 4,
            negatives: 4,
            equation_filter: "off".into(),
            limits: Limits::default(),
            bundled: BTreeMap::new(),
            recipe: None,
            reward: None,
            model: None,
        }
    }
}

impl TaskCard {
    /// A card with this name and domain, and the defaults of `docs/write-a-task.md`.
    pub fn new(name: impl Into<String>, domain: Domain) -> Self {
        Self { name: name.into(), domain, ..Self::default() }
    }

    /// Sets the line shown in lists.
    #[must_use]
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }

    /// Sets the headline number.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = metric;
        self
    }

    /// Sets the sampling temperature.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets the most new tokens of a completion.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: usize) -> Self {
        self.max_tokens = max_tokens;
        self
    }

    /// Sets the texts at which a completion ends.
    #[must_use]
    pub fn stop<T: Into<String>>(mut self, stop: impl IntoIterator<Item = T>) -> Self {
        self.stop = stop.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the out-of-domain tasks.
    #[must_use]
    pub fn transfer<T: Into<String>>(mut self, transfer: impl IntoIterator<Item = T>) -> Self {
        self.transfer = transfer.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the answer rules; the first is the default.
    #[must_use]
    pub fn rules<T: Into<String>>(mut self, rules: impl IntoIterator<Item = T>) -> Self {
        self.rules = rules.into_iter().map(Into::into).collect();
        self.rule = self.rules.first().cloned().unwrap_or_default();
        self
    }

    /// Sets the quotas of the first round.
    #[must_use]
    pub fn quotas(mut self, positives: usize, negatives: usize) -> Self {
        (self.positives, self.negatives) = (positives, negatives);
        self
    }

    /// Sets which paths a flaw in their signature drops: `off`, `chosen` or `both`.
    #[must_use]
    pub fn equation_filter(mut self, filter: &str) -> Self {
        self.equation_filter = filter.into();
        self
    }

    /// Names the bundled model that plays a role (`strong`: simulator and reward base) for this task.
    #[must_use]
    pub fn bundles(mut self, role: &str, model: &str) -> Self {
        self.bundled.insert(role.into(), model.into());
        self
    }

    /// Sets what `sipf run` uses where no flag says otherwise.
    #[must_use]
    pub fn runs_with(mut self, model: &str, reward: &str, recipe: &str) -> Self {
        self.model = Some(model.into());
        self.reward = Some(reward.into());
        self.recipe = Some(recipe.into());
        self
    }
}

/// Whether a reward model scores steps or outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RewardKind {
    /// Every step has its own label.
    #[default]
    Process,
    /// Every step is trained on the outcome's label.
    Outcome,
}

/// Checkpoints for one domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bases {
    /// What the reward model is trained from, or is already.
    pub base: Option<String>,
    /// What continues steps in simulation.
    pub simulator: Option<String>,
}

/// Training defaults of a reward model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Training {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate of the head where it differs; 0 means the same.
    pub head_learning_rate: f64,
    /// Paths a step.
    pub batch: usize,
    /// Passes over the data.
    pub epochs: f64,
    /// Optimizer steps; 0 means as many as `epochs` make.
    pub max_steps: usize,
    /// Share of steps spent warming up.
    pub warmup_ratio: f64,
    /// Gradient clipping; 0 means none.
    pub max_grad_norm: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// LoRA rank; 0 means full training.
    pub lora_rank: usize,
    /// LoRA alpha.
    pub lora_alpha: f64,
    /// LoRA dropout.
    pub lora_dropout: f64,
    /// Longest sequence, in tokens.
    pub max_length: usize,
}

impl Default for Training {
    /// TRL's PRM defaults (formats.md, section 3): full training, 1e-5, one sequence of at most 1,024 tokens after the other.
    fn default() -> Self {
        Self {
            learning_rate: 1e-5,
            head_learning_rate: 0.0,
            batch: 8,
            epochs: 3.0,
            max_steps: 0,
            warmup_ratio: 0.0,
            max_grad_norm: 1.0,
            weight_decay: 0.0,
            lora_rank: 0,
            lora_alpha: 0.0,
            lora_dropout: 0.0,
            max_length: 1024,
        }
    }
}

/// Everything about a reward model that is not a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RewardCard {
    /// Name: `[a-z0-9][a-z0-9.-]*`.
    pub name: String,
    /// One line for lists.
    pub summary: String,
    /// Process or outcome.
    pub kind: RewardKind,
    /// Checkpoints by domain.
    pub bases: BTreeMap<Domain, Bases>,
    /// What stands where a score is read.
    pub marker: Marker,
    /// How the score is computed there.
    pub readout: Readout,
    /// Where it is read, relative to the marker's last token: 0 at it, -1 one before.
    pub offset: i32,
    /// How step scores become one reward.
    pub aggregate: Aggregate,
    /// Gold solutions are added as all-right paths.
    pub with_gold: bool,
    /// Already trained: the base is used as it is.
    pub pretrained: bool,
    /// Training defaults.
    pub training: Training,
}

impl Default for RewardCard {
    fn default() -> Self {
        Self {
            name: String::new(),
            summary: String::new(),
            kind: RewardKind::Process,
            bases: BTreeMap::new(),
            marker: Marker::default(),
            readout: Readout::default(),
            offset: 0,
            aggregate: Aggregate::Mean,
            with_gold: true,
            pretrained: false,
            training: Training::default(),
        }
    }
}

impl RewardCard {
    /// A process reward model: a label for each step.
    pub fn process(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// An outcome reward model: every step gets the outcome's label.
    pub fn outcome(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: RewardKind::Outcome, ..Self::default() }
    }

    /// Sets the line shown in lists.
    #[must_use]
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }

    /// Sets the checkpoint that is trained for this domain.
    #[must_use]
    pub fn base(mut self, domain: Domain, checkpoint: impl Into<String>) -> Self {
        self.bases.entry(domain).or_default().base = Some(checkpoint.into());
        self
    }

    /// Sets the checkpoint that continues steps for this domain.
    #[must_use]
    pub fn simulator(mut self, domain: Domain, checkpoint: impl Into<String>) -> Self {
        self.bases.entry(domain).or_default().simulator = Some(checkpoint.into());
        self
    }

    /// Sets what stands where a score is read.
    #[must_use]
    pub fn marker(mut self, marker: Marker) -> Self {
        self.marker = marker;
        self
    }

    /// Sets how a score is computed.
    #[must_use]
    pub fn readout(mut self, readout: Readout) -> Self {
        self.readout = readout;
        self
    }

    /// Sets where it is read, relative to the marker's last token.
    #[must_use]
    pub fn offset(mut self, offset: i32) -> Self {
        self.offset = offset;
        self
    }

    /// Sets how step scores become one reward.
    #[must_use]
    pub fn aggregate(mut self, aggregate: Aggregate) -> Self {
        self.aggregate = aggregate;
        self
    }

    /// The checkpoint is already a reward model.
    #[must_use]
    pub fn pretrained(mut self) -> Self {
        self.pretrained = true;
        self
    }

    /// Sets the training defaults.
    #[must_use]
    pub fn training(mut self, training: Training) -> Self {
        self.training = training;
        self
    }
}
