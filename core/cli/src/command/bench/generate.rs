//! `sipf bench generate`: new tokens a second on one checkpoint, by batch.

use std::sync::Arc;

use serde_json::{Value, json};
use sipf_core::generate::{Request, Sampling, complete};

use super::{Clock, Cost, Subject, prompt, rates, rates_line, request};
use crate::given::at_least_one;
use crate::interrupt;
use crate::source::Source;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// Sequences at once; several are measured one after the other
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,16,64", value_parser = at_least_one::<usize>())]
    batch: Vec<usize>,
    /// Tokens of each prompt; no two prompts share a beginning
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one::<usize>())]
    prompt_tokens: usize,
    /// New tokens of each sequence
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one::<usize>())]
    new_tokens: usize,
    /// 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Measurements; the median is reported beside all of them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one::<usize>())]
    repeats: usize,
    /// Each measurement takes at least this many seconds
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    at_least: f64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Value> {
    let subject = Subject::load(&args.source)?;
    let sampling =
        Sampling { max_tokens: args.new_tokens, temperature: args.temperature, ..Sampling::default() };
    sampling.check()?;
    let sampling = Arc::new(sampling);
    let mut batches = Vec::new();
    for batch in &args.batch {
        let engine = subject.engine(*batch, true)?;
        // As many rounds a measurement as make it long enough to be read off the clock.
        let mut rounds = 1;
        let mut number = 0;
        let mut measure = |rounds: u64| -> anyhow::Result<Cost> {
            let clock = Clock::start();
            for _ in 0..rounds {
                let requests: Vec<Request> = (0..*batch as u64)
                    .map(|i| {
                        number += 1;
                        let ids = prompt("bench", number, args.prompt_tokens, subject.vocab());
                        request(ids, i, &sampling)
                    })
                    .collect();
                complete(&engine, requests, interrupt::flag())?;
            }
            Ok(clock.stop())
        };
        // The first one warms caches and pages up and is not counted.
        let first = measure(1)?;
        if first.wall < args.at_least {
            rounds = (args.at_least / first.wall).ceil() as u64;
        }
        let costs = (0..args.repeats.max(1)).map(|_| measure(rounds)).collect::<anyhow::Result<Vec<_>>>()?;
        let tokens = rounds as f64 * (*batch * args.new_tokens) as f64;
        let mut entry = rates(tokens, &costs);
        entry["batch"] = (*batch).into();
        batches.push(entry);
    }
    Ok(json!({
        "bench": "generate", "subject": subject.source, "prompt_tokens": args.prompt_tokens,
        "new_tokens": args.new_tokens, "temperature": args.temperature, "batches": batches,
    }))
}

/// The figures for people, a line a batch.
pub(super) fn table(result: &Value) -> Vec<String> {
    let batches = result["batches"].as_array().map_or(&[][..], Vec::as_slice);
    batches.iter().map(|entry| format!("batch {:>4} {}", entry["batch"], rates_line(entry))).collect()
}
