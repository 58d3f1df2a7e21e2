//! Flags of the commands that train, and how they meet the defaults.

mod conduct;

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use sipf_core::align::BadRows;
use sipf_core::model::{LoadOptions, LoraConfig, Trainable};
use sipf_core::train::TrainSettings;

use crate::exit;
use crate::given::{Given, at_least_one};

pub(crate) use conduct::{Job, conduct, read_rows};

/// The same names stand as keys in `--config FILE.toml`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TrainingFlags {
    /// Model folder, Hub id (owner/name@revision), tiny or tiny-strong
    #[arg(long, value_name = "M")]
    pub(crate) model: Option<String>,
    /// Rows to train on: JSONL, JSON or Parquet (may stand several times)
    #[arg(long, value_name = "ROWS")]
    pub(crate) data: Vec<PathBuf>,
    /// Where the model and its metrics go
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print loss and metrics over the rows and train nothing
    #[arg(long)]
    pub(crate) eval_only: bool,
    /// Rows to evaluate on while training
    #[arg(long, value_name = "ROWS")]
    eval_data: Option<PathBuf>,
    /// What a row that cannot be used does: stop (the default) or skip, with a count
    #[arg(long, value_name = "WHAT")]
    bad_rows: Option<String>,
    /// Print every setting and where it came from, and start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Optimizer steps
    #[arg(long, value_name = "N")]
    max_steps: Option<usize>,
    /// Passes over the rows
    #[arg(long, value_name = "F")]
    epochs: Option<f64>,
    /// Rows of a micro-batch
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Micro-batches of an optimizer step
    #[arg(long, value_name = "N")]
    grad_accum: Option<usize>,
    /// Peak learning rate
    #[arg(long, value_name = "F")]
    learning_rate: Option<f64>,
    /// Decoupled weight decay
    #[arg(long, value_name = "F")]
    weight_decay: Option<f64>,
    /// Steps of warm-up
    #[arg(long, value_name = "N")]
    warmup_steps: Option<usize>,
    /// Share of the steps spent warming up
    #[arg(long, value_name = "F")]
    warmup_ratio: Option<f64>,
    /// linear, cosine, constant or wsd (constant, then down over the last 30%)
    #[arg(long, value_name = "NAME")]
    lr_schedule: Option<String>,
    /// Gradient clipping; 0: none
    #[arg(long, value_name = "F")]
    max_grad_norm: Option<f64>,
    /// Decay of Adam's first moment
    #[arg(long, value_name = "F")]
    adam_beta1: Option<f64>,
    /// Decay of Adam's second moment
    #[arg(long, value_name = "F")]
    adam_beta2: Option<f64>,
    /// Adam's epsilon
    #[arg(long, value_name = "F")]
    adam_eps: Option<f64>,
    /// Longest row, in tokens
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// false: rows in file order
    #[arg(long, value_name = "BOOL")]
    shuffle: Option<bool>,
    /// Train every weight (the default where no --lora flag stands)
    #[arg(long, conflicts_with_all = ["lora_r", "lora_alpha", "lora_dropout", "lora_targets", "rslora"])]
    pub(crate) full: bool,
    /// LoRA rank
    #[arg(long, value_name = "N")]
    lora_r: Option<usize>,
    /// LoRA alpha
    #[arg(long, value_name = "F")]
    lora_alpha: Option<f64>,
    /// LoRA dropout
    #[arg(long, value_name = "F")]
    lora_dropout: Option<f64>,
    /// LoRA targets, separated by commas, or all-linear
    #[arg(long, value_name = "LIST")]
    lora_targets: Option<String>,
    /// Scale LoRA by alpha / sqrt(r)
    #[arg(long)]
    rslora: bool,
    /// Recompute activations in the backward pass
    #[arg(long)]
    grad_checkpointing: bool,
    /// Evaluate every so many steps
    #[arg(long, value_name = "N")]
    eval_steps: Option<usize>,
    /// Finish with the weights of the best evaluation
    #[arg(long)]
    keep_best: bool,
    /// Stop after so many evaluations without a better one
    #[arg(long, value_name = "N")]
    early_stop: Option<usize>,
    /// What is compared between evaluations: loss (the default) or another name of metrics.jsonl, without eval_
    #[arg(long, value_name = "NAME")]
    best_metric: Option<String>,
    /// Checkpoint every so many steps
    #[arg(long, value_name = "N")]
    save_steps: Option<usize>,
    /// A line of metrics every so many steps
    #[arg(long, value_name = "N")]
    logging_steps: Option<usize>,
    /// Seed of order, dropout and fresh weights
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The first so many rows
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// Threads
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    threads: Option<usize>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
}

/// Settings with nothing left open.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) model: String,
    pub(crate) data: Vec<PathBuf>,
    pub(crate) eval_data: Option<PathBuf>,
    pub(crate) max_length: usize,
    pub(crate) limit: usize,
    /// Go on past rows that cannot be used.
    pub(crate) skip_bad_rows: bool,
    pub(crate) settings: TrainSettings,
    pub(crate) options: LoadOptions,
    /// Settings that only this command knows.
    own: Map<String, Value>,
    /// Every setting and where it came from.
    pub(crate) shown: Vec<(String, Value, String)>,
}

impl TrainingFlags {
    /// Whether every weight is trained: `--full` stands, and no adapter is asked for with more weight.
    pub(crate) fn is_full(&self, given: &Given) -> bool {
        self.full && (self.lora_r.is_none() || given.origin("full") >= given.origin("lora-r"))
    }

    /// Resolves what is given over `defaults`; `own` are the command's own settings: key, default, flag.
    pub(crate) fn resolve(
        &self,
        given: &Given,
        defaults: &TrainSettings,
        model: Option<&str>,
        max_length: usize,
        own: &[(&str, Value, Option<Value>)],
    ) -> anyhow::Result<Resolved> {
        sipf_core::machine::use_threads(self.threads)?;
        let Value::Object(mut merged) = serde_json::to_value(defaults)? else {
            bail!("settings are no object")
        };
        merged.insert("model".into(), json!(model));
        merged.insert("max-length".into(), json!(max_length));
        merged.insert("bad-rows".into(), json!("stop"));
        for key in
            ["limit", "data", "eval-data", "lora-r", "lora-alpha", "lora-dropout", "lora-targets", "rslora"]
        {
            merged.insert(key.into(), Value::Null);
        }
        merged.extend(own.iter().map(|(key, default, _)| ((*key).to_owned(), default.clone())));
        merged.extend(self.said(given));
        merged.extend(own.iter().filter_map(|(key, _, flag)| Some(((*key).to_owned(), flag.clone()?))));
        let shown = merged
            .iter()
            .map(|(key, value)| (key.clone(), value.clone(), given.origin(key).to_string()))
            .collect();
        let text = |key: &str| merged.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| merged.get(key).and_then(Value::as_f64);
        let data = match merged.get("data") {
            Some(Value::Array(files)) => {
                files.iter().filter_map(|file| file.as_str().map(PathBuf::from)).collect()
            }
            Some(Value::String(file)) => vec![PathBuf::from(file)],
            _ => Vec::new(),
        };
        let settings: TrainSettings =
            serde_json::from_value(Value::Object(merged.clone())).context("training settings")?;
        settings.check()?;
        let length = number("max-length").unwrap_or(max_length as f64) as usize;
        sipf_core::Error::unless(length > 0, "max-length", length, "1 or more")?;
        let (device, _) = sipf_core::machine::device(&self.device)?;
        let dtype = match device.is_cpu() {
            true => LoadOptions::default().dtype,
            false => sipf_core::machine::half_precision(),
        };
        let trainable = match number("lora-r") {
            None => {
                let lora = ["lora-alpha", "lora-dropout", "lora-targets", "rslora"];
                let off =
                    |key: &str| matches!(merged.get(key), None | Some(Value::Null | Value::Bool(false)));
                if let Some(key) = lora.into_iter().find(|key| !off(key)) {
                    anyhow::bail!(
                        "{} is given without --lora-r: say the adapter's rank, or leave it out to train every weight",
                        given.name(key)
                    );
                }
                Trainable::Full
            }
            Some(rank) => {
                let mut lora = LoraConfig { r: rank as usize, ..LoraConfig::default() };
                lora.lora_alpha = number("lora-alpha").unwrap_or(lora.lora_alpha);
                lora.lora_dropout = number("lora-dropout").unwrap_or(lora.lora_dropout);
                lora.use_rslora = merged.get("rslora") == Some(&Value::Bool(true));
                if let Some(targets) = text("lora-targets") {
                    lora.target_modules = targets.split(',').map(|target| target.trim().to_owned()).collect();
                }
                lora.check()?;
                Trainable::Lora(lora)
            }
        };
        Ok(Resolved {
            model: text("model").context("no model: say --model DIR, a Hub id, tiny or tiny-strong")?,
            data,
            eval_data: text("eval-data").map(PathBuf::from),
            max_length: length,
            skip_bad_rows: match text("bad-rows").as_deref() {
                Some("skip") => true,
                Some("stop") | None => false,
                Some(other) => bail!("--bad-rows is {other:?}; it must be stop or skip"),
            },
            limit: number("limit").map_or(usize::MAX, |limit| limit as usize),
            options: LoadOptions { device, dtype, trainable, seed: settings.seed },
            settings,
            own: own.iter().filter_map(|(key, ..)| Some(((*key).to_owned(), merged.remove(*key)?))).collect(),
            shown,
        })
    }

    /// Keys and values of the flags that have one.
    fn said(&self, given: &Given) -> Map<String, Value> {
        let mut said = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                said.insert(key.to_owned(), value);
            }
        };
        put("model", self.model.as_ref().map(|x| json!(x)));
        put("data", (!self.data.is_empty()).then(|| json!(self.data)));
        put("eval-data", self.eval_data.as_ref().map(|x| json!(x)));
        put("bad-rows", self.bad_rows.as_ref().map(|x| json!(x)));
        put("max-steps", self.max_steps.map(|x| json!(x)));
        put("epochs", self.epochs.map(|x| json!(x)));
        put("batch-size", self.batch_size.map(|x| json!(x)));
        put("grad-accum", self.grad_accum.map(|x| json!(x)));
        put("learning-rate", self.learning_rate.map(|x| json!(x)));
        put("weight-decay", self.weight_decay.map(|x| json!(x)));
        put("warmup-steps", self.warmup_steps.map(|x| json!(x)));
        put("warmup-ratio", self.warmup_ratio.map(|x| json!(x)));
        put("lr-schedule", self.lr_schedule.as_ref().map(|x| json!(x)));
        put("max-grad-norm", self.max_grad_norm.map(|x| json!(x)));
        put("adam-beta1", self.adam_beta1.map(|x| json!(x)));
        put("adam-beta2", self.adam_beta2.map(|x| json!(x)));
        put("adam-eps", self.adam_eps.map(|x| json!(x)));
        put("max-length", self.max_length.map(|x| json!(x)));
        put("shuffle", self.shuffle.map(|x| json!(x)));
        put("lora-r", if self.is_full(given) { Some(Value::Null) } else { self.lora_r.map(|x| json!(x)) });
        put("lora-alpha", self.lora_alpha.map(|x| json!(x)));
        put("lora-dropout", self.lora_dropout.map(|x| json!(x)));
        put("lora-targets", self.lora_targets.as_ref().map(|x| json!(x)));
        put("rslora", self.rslora.then_some(Value::Bool(true)));
        put("grad-checkpointing", self.grad_checkpointing.then_some(Value::Bool(true)));
        put("eval-steps", self.eval_steps.map(|x| json!(x)));
        put("keep-best", self.keep_best.then_some(Value::Bool(true)));
        put("early-stop", self.early_stop.map(|x| json!(x)));
        put("best-metric", self.best_metric.as_ref().map(|x| json!(x)));
        put("save-steps", self.save_steps.map(|x| json!(x)));
        put("logging-steps", self.logging_steps.map(|x| json!(x)));
        put("seed", self.seed.map(|x| json!(x)));
        put("limit", self.limit.map(|x| json!(x)));
        said
    }

    /// Prints what a training would be.
    pub(crate) fn print_plan(
        &self,
        given: &Given,
        resolved: &Resolved,
        rows: usize,
        tokens: usize,
    ) -> anyhow::Result<()> {
        let steps = resolved.settings.steps(rows);
        let known = resolved.shown.iter().map(|(key, ..)| key.as_str()).collect();
        let shown: Vec<_> = resolved.shown.iter().cloned().chain(given.others(&known)).collect();
        if self.json {
            let mut object = json!({ "rows": rows, "tokens": tokens, "steps": steps });
            object["settings"] = settings_object(&shown);
            return exit::print_line(&object.to_string());
        }
        print_settings(&shown)?;
        exit::print_line(&format!("{rows} rows, {tokens} tokens an epoch, {steps} optimizer steps"))
    }
}

/// Name, value and origin of settings, for `--json`.
pub(crate) fn settings_object(shown: &[(String, Value, String)]) -> Value {
    let object = |(key, value, from): &(String, Value, String)| {
        (key.clone(), json!({ "value": as_written(value), "from": from }))
    };
    Value::Object(shown.iter().map(object).collect())
}

/// A line a setting.
pub(crate) fn print_settings(shown: &[(String, Value, String)]) -> anyhow::Result<()> {
    shown.iter().try_for_each(|(key, value, from)| {
        exit::print_line(&format!("{key} = {}  ({from})", as_written(value)))
    })
}

/// A fraction of 32 bits as people write it: 0.9, not what 64 bits make of it.
pub(crate) fn as_written(value: &Value) -> Value {
    let number = value.as_f64().filter(|number| value.is_f64() && f64::from(*number as f32) == *number);
    number
        .and_then(|number| serde_json::from_str(&format!("{:?}", number as f32)).ok())
        .unwrap_or_else(|| value.clone())
}

impl Resolved {
    /// What to do with rows that cannot be used.
    pub(crate) fn bad_rows(&self) -> BadRows {
        if self.skip_bad_rows { BadRows::skip() } else { BadRows::stop() }
    }

    /// A setting of the command's own.
    pub(crate) fn own<T: serde::de::DeserializeOwned>(&self, key: &str) -> anyhow::Result<T> {
        let value = self.own.get(key).cloned().unwrap_or_default();
        serde_json::from_value(value.clone()).with_context(|| format!("{key} is {value}"))
    }

    /// The model to start from: frozen where nothing is trained.
    pub(crate) fn load_options(&self, eval_only: bool) -> LoadOptions {
        match eval_only {
            true => LoadOptions { trainable: Trainable::Frozen, ..self.options.clone() },
            false => self.options.clone(),
        }
    }
}
