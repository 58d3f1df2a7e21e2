//! `sipf bench`: figures of this machine; `--json` gives what a peer's script can be held against.

mod generate;
mod plugin;
mod rollout;
mod sandbox;
mod train;

use std::process::ExitCode;
use std::time::Instant;

use clap::Subcommand;
use serde_json::Value;
use sipf_core::generate::{Engine, EngineOptions, Request, Sampling};
use sipf_core::model::Tokenizer;
use sipf_plugin::random::Stream;

use crate::exit::{self, print_line};
use crate::source::Source;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// One JSON object on standard output
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// New tokens a second, by batch
    Generate(generate::Args),
    /// What a call costs through each of a plugin's transports
    Plugin(plugin::Args),
    /// Rollouts from every step of a path, with and without shared prefixes
    Rollout(rollout::Args),
    /// Verdicts a second beside native Python; the same outcomes everywhere; memory over a long run
    Sandbox(sandbox::Args),
    /// Tokens a second and memory of optimizer steps
    Train(train::Args),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (result, table): (Value, fn(&Value) -> Vec<String>) = match &args.what {
        What::Generate(args) => (generate::run(args)?, generate::table),
        What::Plugin(args) => (plugin::run(args)?, plugin::table),
        What::Rollout(args) => (rollout::run(args)?, rollout::table),
        What::Sandbox(args) => {
            let (result, holds) = sandbox::run(args)?;
            print_line(&serde_json::to_string_pretty(&result)?)?;
            return Ok(if holds { exit::DONE } else { exit::did_not_hold() });
        }
        What::Train(args) => (train::run(args)?, train::table),
    };
    if args.json {
        print_line(&serde_json::to_string_pretty(&result)?)?;
        return Ok(exit::DONE);
    }
    if let Some(subject) = result.get("subject") {
        print_line(&format!(
            "{}: {} parameters, {} threads, {}",
            subject["model"].as_str().unwrap_or_default(),
            subject["parameters"],
            subject["threads"],
            subject["instruction_set"].as_str().unwrap_or_default()
        ))?;
    }
    table(&result).iter().try_for_each(|line| print_line(line))?;
    Ok(exit::DONE)
}

/// The model, and an engine for it that ends at no token, so that every run has the same length.
struct Subject {
    source: Value,
    decoder: sipf_core::model::Decoder,
}

impl Subject {
    fn load(source: &Source) -> anyhow::Result<Self> {
        let decoder = source.decoder()?;
        let name = source.name();
        let parameters = decoder.config().parameters();
        let source = serde_json::json!({ "model": name, "parameters": parameters,
            "threads": source.threads()?, "instruction_set": sipf_core::model::kernels::matmul::instruction_set() });
        Ok(Self { source, decoder })
    }

    fn engine(&self, batch: usize, share_prefixes: bool) -> anyhow::Result<Engine> {
        let options = EngineOptions { batch, share_prefixes, ..EngineOptions::default() };
        Ok(Engine::new(&self.decoder, Tokenizer::numbered(self.vocab() as usize)?, options)?)
    }

    fn vocab(&self) -> u32 {
        self.decoder.config().vocab as u32
    }
}

/// `many` token ids of the sequence called `name`.
fn prompt(name: &str, number: u64, many: usize, vocab: u32) -> Vec<u32> {
    let mut stream = Stream::new(sipf_plugin::random::key(name, number));
    (0..many).map(|_| stream.below(vocab)).collect()
}

fn request(prompt: Vec<u32>, stream: u64, sampling: &std::sync::Arc<Sampling>) -> Request {
    Request { tag: 0, stream, prompt, sampling: sampling.clone() }
}

/// Wall time and, where the system tells, processor time of all threads.
struct Clock {
    wall: Instant,
    processor: Option<f64>,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), processor: processor_seconds() }
    }

    fn stop(&self) -> Cost {
        self.until(&Self::start())
    }

    /// From this start to a later one.
    fn until(&self, later: &Self) -> Cost {
        let processor = later.processor.zip(self.processor).map(|(end, start)| end - start);
        Cost { wall: (later.wall - self.wall).as_secs_f64(), processor }
    }
}

/// What a measurement took, in seconds.
#[derive(Debug, Clone, Copy)]
struct Cost {
    wall: f64,
    /// On a machine that others use too, this is the figure to compare.
    processor: Option<f64>,
}

/// User and system time of this process so far; Linux tells it in hundredths.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold anything; fields 14 and 15 of the line follow it as 12 and 13.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

/// The middle of several measurements.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What [`rates`] gave, for people.
fn rates_line(rates: &Value) -> String {
    let number = |key: &str| rates[key].as_f64().map_or_else(|| "?".to_string(), |n| format!("{n:.0}"));
    format!(
        "{:>8} new tokens a second, {:>8} a processor second",
        number("tokens_per_second"),
        number("tokens_per_cpu_second")
    )
}

/// Medians of amounts a second, wall and processor, with every measurement.
fn rates(amount: f64, costs: &[Cost]) -> Value {
    let wall: Vec<f64> = costs.iter().map(|cost| amount / cost.wall).collect();
    let processor: Option<Vec<f64>> = costs.iter().map(|cost| Some(amount / cost.processor?)).collect();
    serde_json::json!({
        "tokens_per_second": median(wall.iter().copied()), "measured": wall,
        "tokens_per_cpu_second": processor.map(median),
    })
}
