//! `sipf model logits`: what the model says after each of these token ids.

use std::process::ExitCode;

use anyhow::ensure;
use serde_json::json;
use sipf_core::model::{Attention, Packed, Pass};

use crate::exit::{self, print_line};
use crate::source::Source;

/// Candidates a position that are printed for people.
const SHOWN: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Token ids, taken as they are
    #[arg(long, value_name = "1,2,3", value_delimiter = ',', required = true)]
    ids: Vec<u32>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ensure!(!args.ids.is_empty(), "--ids names no token");
    let decoder = args.source.decoder()?;
    let packed = Packed::of_lengths([args.ids.len()]);
    let hidden =
        decoder.hidden(&args.ids, &packed.positions(), Attention::Packed(&packed), &Pass::default())?;
    let logits: Vec<Vec<f32>> = decoder.logits(&hidden)?.to_vec2().map_err(sipf_core::Error::from)?;
    if args.json {
        print_line(&json!({ "ids": args.ids, "logits": logits }).to_string())?;
        return Ok(exit::DONE);
    }
    for (id, row) in args.ids.iter().zip(&logits) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        let best: Vec<String> = order.iter().take(SHOWN).map(|i| format!("{i} {:.4}", row[*i])).collect();
        print_line(&format!("after {id}: {}", best.join(", ")))?;
    }
    Ok(exit::DONE)
}
