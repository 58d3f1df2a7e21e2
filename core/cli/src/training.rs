//! Flags of the commands that train, and how they meet `--config` and the defaults.

mod conduct;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use sipf_core::align::BadRows;
use sipf_core::model::{LoadOptions, LoraConfig, Trainable};
use sipf_core::train::TrainSettings;

pub(crate) use conduct::{Job, conduct, read_rows};

/// The same names stand as keys in `--config FILE.toml`; a flag wins over the file, the file over the default.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TrainingFlags {
    /// Model folder, Hub id (owner/name@revision), tiny or tiny-strong
    #[arg(long, value_name = "M", env = "SIPF_MODEL")]
    pub(crate) model: Option<String>,
    /// Rows to train on: JSONL, JSON or Parquet (may stand several times)
    #[arg(long, value_name = "ROWS")]
    pub(crate) data: Vec<PathBuf>,
    /// Where the model and its metrics go
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Settings in TOML, under the names of these flags
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
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
    #[arg(long, value_name = "N", env = "SIPF_SEED")]
    seed: Option<u64>,
    /// The first so many rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Threads
    #[arg(long, value_name = "N", env = "SIPF_THREADS")]
    threads: Option<usize>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "D", default_value = "cpu", env = "SIPF_DEVICE")]
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
    pub(crate) shown: Vec<(String, Value, &'static str)>,
}

impl TrainingFlags {
    /// Resolves flags over `--config` over `defaults`; `own` are the command's own settings: key, default, flag.
    pub(crate) fn resolve(
        &self,
        defaults: &TrainSettings,
        model: Option<&str>,
        max_length: usize,
        own: &[(&str, Value, Option<Value>)],
    ) -> anyhow::Result<Resolved> {
        sipf_core::machine::use_threads(self.threads)?;
        let file = self.config.as_deref().map(read_config).transpose()?.unwrap_or_default();
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
        let mut from: Map<String, Value> = merged.keys().map(|key| (key.clone(), json!("default"))).collect();
        for (key, value) in file {
            let key = key.replace('_', "-");
            if merged.contains_key(&key) {
                from.insert(key.clone(), json!("config"));
                merged.insert(key, value);
            } else {
                let place = self.config.as_deref().unwrap_or(Path::new("--config"));
                bail!("{}: unknown key {key:?}", place.display());
            }
        }
        let mut given = self.given();
        given.extend(own.iter().filter_map(|(key, _, flag)| Some(((*key).to_owned(), flag.clone()?))));
        for (key, value) in given {
            from.insert(key.clone(), json!("flag"));
            merged.insert(key, value);
        }
        let shown = merged
            .iter()
            .map(|(key, value)| {
                let from = match from.get(key).and_then(Value::as_str) {
                    Some("flag") => "flag",
                    Some("config") => "config",
                    _ => "default",
                };
                (key.clone(), value.clone(), from)
            })
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
        let (device, _) = sipf_core::machine::device(&self.device)?;
        let dtype = match device.is_cpu() {
            true => LoadOptions::default().dtype,
            false => sipf_core::machine::half_precision(),
        };
        let trainable = match number("lora-r") {
            None => Trainable::Full,
            Some(rank) => {
                let mut lora = LoraConfig { r: rank as usize, ..LoraConfig::default() };
                lora.lora_alpha = number("lora-alpha").unwrap_or(lora.lora_alpha);
                lora.lora_dropout = number("lora-dropout").unwrap_or(lora.lora_dropout);
                lora.use_rslora = merged.get("rslora") == Some(&Value::Bool(true));
                if let Some(targets) = text("lora-targets") {
                    lora.target_modules = targets.split(',').map(|target| target.trim().to_owned()).collect();
                }
                Trainable::Lora(lora)
            }
        };
        Ok(Resolved {
            model: text("model").context("no model: say --model DIR, a Hub id, tiny or tiny-strong")?,
            data,
            eval_data: text("eval-data").map(PathBuf::from),
            max_length: number("max-length").unwrap_or(max_length as f64) as usize,
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

    /// Keys and values of the flags that stand on the command line.
    fn given(&self) -> Map<String, Value> {
        let mut given = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                given.insert(key.to_owned(), value);
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
        put("lora-r", if self.full { Some(Value::Null) } else { self.lora_r.map(|x| json!(x)) });
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
        given
    }

    /// Prints what a training would be.
    pub(crate) fn print_plan(&self, resolved: &Resolved, rows: usize, tokens: usize) -> anyhow::Result<()> {
        let steps = resolved.settings.steps(rows);
        if self.json {
            let settings: Map<String, Value> = resolved
                .shown
                .iter()
                .map(|(key, value, from)| (key.clone(), json!({ "value": value, "from": from })))
                .collect();
            return crate::exit::print_line(
                &json!({ "settings": settings, "rows": rows, "tokens": tokens, "steps": steps }).to_string(),
            );
        }
        for (key, value, from) in &resolved.shown {
            crate::exit::print_line(&format!("{key} = {value}  ({from})"))?;
        }
        crate::exit::print_line(&format!("{rows} rows, {tokens} tokens an epoch, {steps} optimizer steps"))
    }
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

fn read_config(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} (--config)", path.display()))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
    match serde_json::to_value(table)? {
        Value::Object(keys) => Ok(keys),
        _ => bail!("{}: no table", path.display()),
    }
}
