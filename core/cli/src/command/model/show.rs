//! `sipf model show`: what a checkpoint is.

use std::process::ExitCode;

use serde_json::{Map, Value, json};
use sipf_core::model::lora::Adapter;
use sipf_core::model::{Checkpoint, Decoder, LoadOptions, Tokenizer, kernels};

use crate::exit::{self, print_line};
use crate::source::{Source, tell_unread};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Read every weight and fail on NaN or infinity
    #[arg(long)]
    check: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = args.source.folder()?;
    let checkpoint = Checkpoint::open_headless(folder)?;
    tell_unread(&checkpoint);
    if args.check {
        checkpoint.check_finite()?;
    }
    let mut facts = facts(&checkpoint);
    facts.insert("model".into(), args.source.name().into());
    if folder.join("tokenizer.json").is_file() {
        let tokenizer = Tokenizer::load(folder)?;
        facts.insert("tokenizer".into(), of_tokenizer(&tokenizer));
    }
    if let Some(adapter) = args.source.adapter() {
        // Loading it over the model is what shows that it fits.
        let decoder = Decoder::of_checkpoint(&checkpoint, &LoadOptions::default())?.with_adapter(adapter)?;
        facts.insert("adapter".into(), decoder.adapter().map_or(Value::Null, of_adapter));
    }
    facts.insert("kernels".into(), kernels::matmul::instruction_set().into());
    match args.json {
        true => print_line(&Value::Object(facts).to_string())?,
        false => {
            for (key, value) in &facts {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                print_line(&format!("{key:18} {text}"))?;
            }
        }
    }
    Ok(exit::DONE)
}

fn facts(checkpoint: &Checkpoint) -> Map<String, Value> {
    let config = checkpoint.config();
    let files: Vec<Value> =
        checkpoint.files().map(|(name, bytes)| json!({ "file": name, "bytes": bytes })).collect();
    let all = json!({
        "model": null,
        "family": config.family,
        "parameters": config.parameters(),
        "dtype": checkpoint.dtypes(),
        "vocab": config.vocab,
        "hidden": config.hidden,
        "layers": config.layers,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate": config.intermediate,
        "context": config.context,
        "windows": config.windows.iter().flatten().next(),
        "rope_theta": config.rope_theta,
        "rope_scaling": format!("{:?}", config.rope_scaling),
        "tied": config.tied && checkpoint.has_output_layer(),
        "output_layer": checkpoint.has_output_layer(),
        "eos": config.eos,
        "files": files,
    });
    match all {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn of_tokenizer(tokenizer: &Tokenizer) -> Value {
    json!({
        "vocab": tokenizer.vocab_size(),
        "bos": tokenizer.bos(),
        "eos": tokenizer.eos(),
        "pad": tokenizer.pad(),
        "chat_template": tokenizer.chat_template().is_some(),
    })
}

fn of_adapter(adapter: &Adapter) -> Value {
    let weights: usize = adapter.variables().iter().map(|(_, v)| v.as_tensor().elem_count()).sum();
    json!({
        "r": adapter.config.r,
        "alpha": adapter.config.lora_alpha,
        "rslora": adapter.config.use_rslora,
        "layers": adapter.parts.len(),
        "parameters": weights,
        "modules_to_save": adapter.config.modules_to_save,
    })
}
