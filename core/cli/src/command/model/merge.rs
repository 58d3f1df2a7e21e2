//! `sipf model merge`: a checkpoint with an adapter added into its weights.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use sipf_core::model::{Checkpoint, Decoder, LoadOptions, names, save};

use crate::exit::{self, print_line};
use crate::source::{Source, tell_unread};
use crate::writable;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = args.source.folder()?;
    let adapter = args.source.adapter().context("--adapter DIR says what to merge")?;
    writable::folder("--out", &args.out)?;
    let checkpoint = Checkpoint::open(folder)?;
    tell_unread(&checkpoint);
    let merged = Decoder::of_checkpoint(&checkpoint, &LoadOptions::default())?.with_adapter(adapter)?;
    // Summed in f32, written in the type that each weight had; a head that left its embedding has that one's.
    merged.save_as(&args.out, |name| checkpoint.dtype(name).or(checkpoint.dtype(names::EMBEDDING)))?;
    save::copy_tokenizer(folder, &args.out)?;
    let layers = merged.adapter().map_or(0, |adapter| adapter.parts.len());
    match args.json {
        true => print_line(&json!({ "out": args.out, "adapted_layers": layers }).to_string())?,
        false => print_line(&format!("{}: {layers} layers merged", args.out.display()))?,
    }
    Ok(exit::DONE)
}
