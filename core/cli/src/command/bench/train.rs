//! `sipf bench train`: tokens a second and memory of whole optimizer steps: forward, backward, clipping, AdamW.

use std::cell::RefCell;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use sipf_core::align::{Orpo, OrpoObjective, SftObjective, tokens};
use sipf_core::machine;
use sipf_core::model::{Decoder, LoadOptions, LoraConfig, ModelFolder, Trainable};
use sipf_core::progress::Progress;
use sipf_core::train::{self, Objective, Observed, TrainSettings};

use crate::given::at_least_one;

use super::{Clock, Cost, prompt, rates};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model folder, Hub id or bundled name
    #[arg(long, value_name = "M")]
    model: String,
    /// orpo (pairs) or sft (rows)
    #[arg(long, value_name = "LOSS", default_value = "orpo")]
    loss: String,
    /// Sequences of a step: a pair is two
    #[arg(long, value_name = "N", default_value_t = 16)]
    sequences: usize,
    /// Tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one::<usize>())]
    prompt_tokens: usize,
    /// Tokens of each completion
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one::<usize>())]
    new_tokens: usize,
    /// Steps that are measured, after one that is not
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one::<usize>())]
    steps: usize,
    /// Train an adapter of this rank on every linear layer instead of every weight
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    lora_r: Option<usize>,
    /// Recompute activations in the backward pass
    #[arg(long)]
    grad_checkpointing: bool,
    /// Threads
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    threads: Option<usize>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Value> {
    anyhow::ensure!(
        args.sequences >= 2 && args.sequences.is_multiple_of(2),
        "--sequences is {}; pairs need an even number",
        args.sequences
    );
    let threads = machine::use_threads(args.threads)?;
    let (device, _) = machine::device(&args.device)?;
    let dtype = if device.is_cpu() { LoadOptions::default().dtype } else { machine::half_precision() };
    let trainable = match args.lora_r {
        Some(r) => Trainable::Lora(LoraConfig {
            r,
            target_modules: vec!["all-linear".into()],
            ..LoraConfig::default()
        }),
        None => Trainable::Full,
    };
    let folder = ModelFolder::open(&args.model, LoadOptions::default().seed)?;
    let options = LoadOptions { device, dtype, trainable, ..LoadOptions::default() };
    let decoder = Decoder::load(folder.path(), &options)?;
    let parameters = decoder.config().parameters();
    let inner = objective(args, decoder)?;
    let clocks = RefCell::new(Vec::new());
    let note = || clocks.borrow_mut().push(Clock::start());
    let observed = Observed::new(&*inner, &note);
    let rows: Vec<usize> = (0..inner.rows()).collect();
    // Every token of every sequence, also where two share it: what is computed once is gained.
    let step_tokens = args.sequences * (args.prompt_tokens + args.new_tokens);
    let settings = TrainSettings {
        // The first step is not counted, and the last one has no successor to tell when it ended.
        max_steps: args.steps + 2,
        batch_size: rows.len(),
        shuffle: false,
        save_steps: 0,
        grad_checkpointing: args.grad_checkpointing,
        ..TrainSettings::default()
    };
    let before = memory("VmRSS:");
    let out = tempfile::tempdir().context("a folder for the metrics")?;
    train::train(&observed, None, &settings, out.path(), crate::interrupt::flag(), &Progress::quiet())?;
    // A step lasts from one loss to the next.
    let clocks = clocks.take();
    let costs: Vec<Cost> = clocks.windows(2).skip(1).map(|pair| pair[0].until(&pair[1])).collect();
    let mut report = rates(step_tokens as f64, &costs);
    let subject = json!({ "model": folder_name(&args.model), "parameters": parameters, "threads": threads,
        "instruction_set": sipf_core::model::kernels::matmul::instruction_set() });
    report["bench"] = json!("train");
    report["subject"] = subject;
    report["loss"] = json!(args.loss);
    report["step_tokens"] = json!(step_tokens);
    report["lora_r"] = json!(args.lora_r);
    report["grad_checkpointing"] = json!(args.grad_checkpointing);
    report["memory_mb"] = json!({ "before_first_step": before, "peak": memory("VmHWM:") });
    Ok(report)
}

/// For people.
pub(super) fn table(report: &Value) -> Vec<String> {
    let rate = |key: &str| report[key].as_f64().unwrap_or_default();
    let memory = |key: &str| report["memory_mb"][key].as_u64().unwrap_or_default();
    vec![
        format!(
            "{} step of {} tokens: {:.0} tokens/s, {:.0} a processor second",
            report["loss"].as_str().unwrap_or_default(),
            report["step_tokens"],
            rate("tokens_per_second"),
            rate("tokens_per_cpu_second")
        ),
        format!(
            "memory: {} MB before the first step, {} MB at most",
            memory("before_first_step"),
            memory("peak")
        ),
    ]
}

fn folder_name(model: &str) -> String {
    let name = Path::new(model).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| model.to_owned())
}

/// Rows of random ids.
fn objective(args: &Args, decoder: Decoder) -> anyhow::Result<Box<dyn Objective>> {
    let vocab = decoder.config().vocab as u32;
    let length = args.prompt_tokens + args.new_tokens;
    let sequence = |name: &str, number: usize| tokens::Sequence {
        ids: prompt(name, number as u64, length, vocab),
        completion: args.prompt_tokens,
    };
    let pairs = (0..args.sequences / 2).map(|number| {
        let (chosen, mut rejected) = (sequence("chosen", number), sequence("rejected", number));
        rejected.ids[..args.prompt_tokens].copy_from_slice(&chosen.ids[..args.prompt_tokens]);
        tokens::PairTokens { chosen, rejected, place: format!("pair {number}") }
    });
    match args.loss.as_str() {
        "orpo" => Ok(Box::new(OrpoObjective::of_tokens(decoder, pairs.collect(), Orpo::default()))),
        "sft" => {
            let rows = (0..args.sequences).map(|number| (sequence("row", number), format!("row {number}")));
            Ok(Box::new(SftObjective::of_tokens(decoder, rows.collect())))
        }
        other => anyhow::bail!("--loss is {other:?}; orpo and sft are measured"),
    }
}

/// A figure of /proc/self/status in MB, where there is one.
fn memory(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}
