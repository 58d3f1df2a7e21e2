//! `sipf model`: what a checkpoint is, its logits, adapters into weights, checkpoints from other formats.

mod logits;
mod merge;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;
use sipf_core::model::{Checkpoint, convert, gguf};

use crate::exit::{self, print_line};
use crate::writable;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What a checkpoint is: family, sizes, files, tokenizer
    Show(show::Args),
    /// Logits after each of these token ids
    Logits(logits::Args),
    /// A checkpoint with an adapter added into its weights
    Merge(merge::Args),
    /// A Hugging Face folder from a GGUF file, or from llama2.c's files (*.bin with tok*.model or tok*.bin)
    Convert {
        /// A *.gguf file; a folder of llama2.c's files, or the *.bin file itself
        source: PathBuf,
        /// Folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Show(args) => show::run(args),
        Action::Logits(args) => logits::run(args),
        Action::Merge(args) => merge::run(args),
        Action::Convert { source, out, json } => {
            if !source.exists() {
                bail!("{}: there is no such file or folder", source.display());
            }
            writable::folder("--out", out)?;
            match source.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
                true => gguf::convert(source, out)?,
                false => convert::llama2c(source, out)?,
            }
            // What was written must load.
            let config = Checkpoint::open(out)?.config().clone();
            match json {
                true => print_line(
                    &json!({ "out": out.display().to_string(), "family": config.family, "parameters": config.parameters() })
                        .to_string(),
                )?,
                false => print_line(&format!(
                    "{}: {} with {} parameters, {} layers, {} tokens",
                    out.display(),
                    config.family,
                    config.parameters(),
                    config.layers,
                    config.vocab
                ))?,
            }
            Ok(exit::DONE)
        }
    }
}
