//! `sipf bench rollout`: K rollouts from every step of some paths, with shared prefixes and without.

use std::sync::Arc;

use anyhow::bail;
use serde_json::{Value, json};
use sipf_core::generate::{Request, Sampling, Usage, complete};

use super::{Clock, Cost, Subject, median, prompt, rates, rates_line, request};
use crate::given::at_least_one;
use crate::interrupt;
use crate::source::Source;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// Paths
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one::<usize>())]
    paths: usize,
    /// Tokens of each question
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one::<usize>())]
    prompt_tokens: usize,
    /// Steps of each path; rollouts start after each but the last
    #[arg(long, value_name = "N", default_value_t = 4)]
    steps: usize,
    /// Tokens of each step
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = at_least_one::<usize>())]
    step_tokens: usize,
    /// Rollouts of each step
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = at_least_one::<usize>())]
    rollouts: usize,
    /// Sequences at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one::<usize>())]
    batch: usize,
    /// Measurements of each scheme, taken in turns
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one::<usize>())]
    repeats: usize,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Value> {
    if args.steps < 2 {
        bail!("--steps is {}; a rollout needs a step before it and one after, so 2 or more", args.steps);
    }
    let subject = Subject::load(&args.source)?;
    let requests = requests(args, subject.vocab());
    let mut costs: [Vec<Cost>; 2] = [Vec::new(), Vec::new()];
    let mut usage = [Usage::default(); 2];
    for repeat in 0..=args.repeats.max(1) {
        for (scheme, share) in [true, false].into_iter().enumerate() {
            let engine = subject.engine(args.batch, share)?;
            let clock = Clock::start();
            usage[scheme] = complete(&engine, requests.clone(), interrupt::flag())?.1;
            let cost = clock.stop();
            if repeat > 0 {
                costs[scheme].push(cost);
            }
        }
    }
    let report = |scheme: usize| {
        let mut report = rates(usage[scheme].generated_tokens as f64, &costs[scheme]);
        report["forward_tokens"] = usage[scheme].forward_tokens.into();
        report
    };
    let wall = |scheme: usize| median(costs[scheme].iter().map(|cost| cost.wall));
    let processor = |scheme: usize| {
        let seconds: Option<Vec<f64>> = costs[scheme].iter().map(|cost| cost.processor).collect();
        seconds.map(median)
    };
    Ok(json!({
        "bench": "rollout", "subject": subject.source, "paths": args.paths, "prompt_tokens": args.prompt_tokens,
        "steps": args.steps, "step_tokens": args.step_tokens, "rollouts": args.rollouts, "batch": args.batch,
        "shared": report(0), "unshared": report(1),
        "speedup": wall(1) / wall(0), "cpu_speedup": processor(1).zip(processor(0)).map(|(a, b)| a / b),
        "fewer_tokens": usage[1].forward_tokens as f64 / usage[0].forward_tokens as f64,
    }))
}

/// Every rollout runs to the end that the path would have had.
fn requests(args: &Args, vocab: u32) -> Vec<Request> {
    let mut requests = Vec::new();
    for path in 0..args.paths as u64 {
        let ids = prompt("path", path, args.prompt_tokens + args.steps * args.step_tokens, vocab);
        for step in 1..args.steps {
            let max_tokens = (args.steps - step) * args.step_tokens;
            let sampling = Arc::new(Sampling { max_tokens, ..Sampling::default() });
            for rollout in 0..args.rollouts as u64 {
                let stream =
                    sipf_plugin::random::key("rollout", (path << 32) | ((step as u64) << 16) | rollout);
                let prompt = ids[..args.prompt_tokens + step * args.step_tokens].to_vec();
                requests.push(request(prompt, stream, &sampling));
            }
        }
    }
    requests
}

/// The figures for people.
pub(super) fn table(result: &Value) -> Vec<String> {
    let ratio = |key: &str| result[key].as_f64().map_or_else(|| "?".to_string(), |n| format!("{n:.2}"));
    let scheme = |name: &str| {
        let entry = &result[name];
        format!("{name:>8} {}, {} tokens computed", rates_line(entry), entry["forward_tokens"])
    };
    vec![
        scheme("shared"),
        scheme("unshared"),
        format!(
            "shared prefixes: {}x in time, {}x in processor time, {}x fewer tokens",
            ratio("speedup"),
            ratio("cpu_speedup"),
            ratio("fewer_tokens")
        ),
    ]
}
