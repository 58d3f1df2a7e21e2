//! `sipf reward score`: step scores and the path's reward (Eq. 5), one line a path.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use sipf_core::model::save::write_text;
use sipf_core::progress::Progress;
use sipf_plugin::Aggregate;

use super::{Trained, paths, read_all};
use crate::given::at_least_one;
use crate::{exit, writable};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    trained: Trained,
    /// Paths: samples, or rows of {prompt, completions} (may stand several times)
    #[arg(long, value_name = "ROWS", required = true)]
    data: Vec<PathBuf>,
    /// Where the scores go: one {sample, scores, reward} a line
    #[arg(long, value_name = "O.jsonl")]
    out: PathBuf,
    /// mean, min, product or last [default: the reward model's]
    #[arg(long, value_name = "HOW")]
    aggregate: Option<String>,
    /// The first so many rows
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let aggregate: Option<Aggregate> = args
        .aggregate
        .as_ref()
        .map(|name| serde_json::from_value(json!(name)))
        .transpose()
        .map_err(|_| anyhow::anyhow!("--aggregate: mean, min, product or last"))?;
    writable::file("--out", &args.out)?;
    let (net, reward) = args.trained.open()?;
    let mut rows = read_all(&args.data, args.limit, paths::read)?;
    let read = rows.len();
    rows.retain(|row| row.kept);
    let progress = Progress::new("score", Some(rows.len() as u64), "paths");
    let (scores, beyond) = paths::scores(&net, &*reward, &rows, &progress)?;
    progress.finish();
    let mut out = String::new();
    let mut total = 0.0;
    for (row, scores) in rows.iter().zip(&scores) {
        let path_reward = match aggregate {
            Some(aggregate) => aggregate.of(scores),
            None => reward.aggregate(scores)?,
        };
        total += f64::from(path_reward);
        writeln!(out, "{}", json!({ "sample": row.name, "scores": scores, "reward": path_reward }))?;
    }
    write_text(&args.out, &out)?;
    let (count, steps) = (rows.len(), scores.iter().map(Vec::len).sum::<usize>());
    let mean = total / count.max(1) as f64;
    match args.json {
        true => exit::print_line(
            &json!({
                "rows_in": read, "rows_out": count, "steps": steps, "steps_beyond": beyond.steps,
                "mean_reward": mean, "out": args.out,
            })
            .to_string(),
        )?,
        false => exit::print_line(&format!(
            "{count} paths, {steps} steps, mean reward {mean:.4}; {}",
            args.out.display()
        ))?,
    }
    Ok(exit::DONE)
}
