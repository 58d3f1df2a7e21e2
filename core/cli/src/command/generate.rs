//! `sipf generate`: completions of prompts, in the order of the prompts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use sipf_core::error::of_json_line;
use sipf_core::generate::{Completion, Engine, EngineOptions, Request, Sampling, complete};
use sipf_core::model::Tokenizer;
use sipf_core::stream::StreamName;
use sipf_core::text;

use crate::exit::{self, print_line, tell};
use crate::given::at_least_one;
use crate::interrupt;
use crate::source::Source;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["prompt", "prompts", "ids"]))]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Text to complete
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// File of prompts, one {"id", "prompt"} a line
    #[arg(long, value_name = "FILE.jsonl")]
    prompts: Option<PathBuf>,
    /// Token ids to complete, taken as they are
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    ids: Option<Vec<u32>>,
    /// Treat each prompt as a user's message and apply the tokenizer's chat template
    #[arg(long, conflicts_with = "ids")]
    chat: bool,
    /// Completions of each prompt
    #[arg(short = 'n', long = "samples", value_name = "K", default_value_t = 1, value_parser = at_least_one::<u64>())]
    samples: u64,
    #[command(flatten)]
    sampling: SamplingFlags,
    /// The most sequences that run at once; changes the speed, not the text
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one::<usize>())]
    batch_size: usize,
    /// Memory for keys and values, in MiB; changes the speed, not the text
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = at_least_one::<usize>())]
    cache_mib: usize,
    /// Compute every prompt by itself; changes the speed, not the text
    #[arg(long)]
    no_prefix_sharing: bool,
    /// Seed of the random streams
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Only the first N prompts
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// How tokens are drawn; the definitions are those of `transformers`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SamplingFlags {
    /// What logits are divided by; 0 takes the most likely token (greedy)
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Keep the most likely tokens that hold this much probability together
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Keep this many of the most likely tokens; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: usize,
    /// Keep tokens at least this share as likely as the most likely one
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Make tokens that occurred before less likely; 1 is off
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// At most this many new tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    /// Text that ends a completion and is cut off; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl SamplingFlags {
    fn sampling(&self) -> anyhow::Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            logprobs: false,
        };
        sampling.check()?;
        Ok(sampling)
    }
}

/// A prompt and what it is called in the output.
struct Prompt {
    id: Option<Value>,
    /// What its random streams are named after: its id, or its number where it has none.
    name: String,
    ids: Vec<u32>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sampling = Arc::new(args.sampling.sampling()?);
    // Prompts are read before the model: a bad line should not cost a minute.
    let texts = texts(args)?;
    let tokenizer = args.source.tokenizer()?;
    let decoder = args.source.decoder()?;
    let options = EngineOptions {
        batch: args.batch_size,
        cache_bytes: args.cache_mib << 20,
        share_prefixes: !args.no_prefix_sharing,
        ..EngineOptions::of(args.source.folder()?, &tokenizer)?
    };
    let prompts = match &args.ids {
        Some(ids) => vec![Prompt { id: None, name: "0".into(), ids: ids.clone() }],
        None => encode(texts, &tokenizer, args.chat)?,
    };
    let context = decoder.config().context;
    if let Some(prompt) = prompts.iter().find(|prompt| prompt.ids.len() >= context) {
        bail!(
            "prompt {} has {} tokens, but the model's context is {context}: shorten it",
            prompt.name,
            prompt.ids.len()
        );
    }
    let engine = Engine::new(&decoder, tokenizer, options)?;
    let mut requests = Vec::new();
    for prompt in &prompts {
        for index in 0..args.samples {
            let name = StreamName {
                seed: args.seed,
                stage: "generate",
                problem: &prompt.name,
                index,
                ..StreamName::default()
            };
            requests.push(Request {
                tag: 0,
                stream: name.key(),
                prompt: prompt.ids.clone(),
                sampling: sampling.clone(),
            });
        }
    }
    let (completions, usage) = complete(&engine, requests, interrupt::flag())?;
    let rows: Vec<(&Prompt, u64, &Completion)> = prompts
        .iter()
        .flat_map(|prompt| (0..args.samples).map(move |index| (prompt, index)))
        .zip(&completions)
        .map(|((prompt, index), completion)| (prompt, index, completion))
        .collect();
    if args.json {
        let rows: Vec<Value> = rows.iter().map(|(prompt, index, c)| row(prompt, *index, c)).collect();
        print_line(&json!({ "completions": rows }).to_string())?;
    } else {
        for (prompt, index, completion) in &rows {
            if rows.len() > 1 {
                print_line(&format!("== {}.{index}", prompt.name))?;
            }
            print_line(&completion.text)?;
        }
        if rows.len() > 1 {
            tell(&format!(
                "{} completions, {} new tokens; {} tokens computed, {} without shared prefixes",
                rows.len(),
                usage.generated_tokens,
                usage.forward_tokens,
                usage.unshared_tokens
            ));
        }
    }
    Ok(exit::DONE)
}

fn row(prompt: &Prompt, index: u64, completion: &Completion) -> Value {
    let mut row = Map::new();
    if let Some(id) = &prompt.id {
        row.insert("id".into(), id.clone());
    }
    row.insert("index".into(), index.into());
    row.insert("text".into(), completion.text.clone().into());
    row.insert("ids".into(), completion.ids.clone().into());
    row.insert("finish_reason".into(), completion.finish.reason().into());
    Value::Object(row)
}

/// The texts to complete, with the id of each.
fn texts(args: &Args) -> anyhow::Result<Vec<(Option<Value>, String)>> {
    let mut texts = match (&args.prompt, &args.prompts) {
        (Some(prompt), _) => vec![(None, prompt.clone())],
        (None, Some(file)) => read(file)?,
        (None, None) => Vec::new(),
    };
    texts.truncate(args.limit.unwrap_or(usize::MAX));
    Ok(texts)
}

fn read(file: &Path) -> anyhow::Result<Vec<(Option<Value>, String)>> {
    let text = text::read(file).context("--prompts")?;
    let mut rows = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{}, line {}", file.display(), at + 1);
        let value: Value = serde_json::from_str(line)
            .map_err(|error| anyhow::anyhow!("{}: {}", place(), of_json_line(&error)))?;
        let Some(prompt) = value["prompt"].as_str() else {
            bail!("{}: no text under \"prompt\"", place());
        };
        rows.push((value.get("id").cloned(), prompt.to_string()));
    }
    if rows.is_empty() {
        bail!("{} holds no prompts", file.display());
    }
    Ok(rows)
}

fn encode(
    texts: Vec<(Option<Value>, String)>,
    tokenizer: &Tokenizer,
    chat: bool,
) -> anyhow::Result<Vec<Prompt>> {
    let mut prompts = Vec::new();
    for (number, (id, text)) in texts.into_iter().enumerate() {
        let ids = match chat {
            // A template writes the special tokens itself.
            true => tokenizer.encode(&tokenizer.chat(&[("user", &text)])?, false)?,
            false => tokenizer.encode(&text, true)?,
        };
        let name = match &id {
            Some(Value::String(id)) => id.clone(),
            Some(id) => id.to_string(),
            None => number.to_string(),
        };
        if ids.is_empty() {
            bail!("prompt {name} is empty and the tokenizer adds no begin-of-sequence token to it");
        }
        prompts.push(Prompt { id, name, ids });
    }
    Ok(prompts)
}
