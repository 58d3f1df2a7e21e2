//! `sipf reward eval`: step accuracy, AUC, ranking within questions, calibration, and ProcessBench's F1.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value, json};
use sipf_core::dataset::{DataOptions, Lookup};
use sipf_core::progress::Progress;
use sipf_core::reward::quality::{self, ScoredTruth};
use sipf_plugin::{RewardModel, Split};

use super::paths::{self, PathRow};
use super::{Trained, read_all};
use crate::exit;
use crate::given::at_least_one;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    trained: Trained,
    /// ProcessBench's rows, labelled rows, or samples of a task that knows its step truths (may stand several times)
    #[arg(long, value_name = "ROWS", required = true)]
    data: Vec<PathBuf>,
    /// The task whose step truth samples are compared with
    #[arg(long, value_name = "T")]
    task: Option<String>,
    /// ProcessBench: a step below this is wrong
    #[arg(long, value_name = "F", default_value_t = 0.5)]
    threshold: f32,
    /// The first so many rows
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let holds = (0.0..=1.0).contains(&args.threshold);
    sipf_core::Error::unless(holds, "threshold", args.threshold, "between 0 and 1")?;
    let (net, reward) = args.trained.open()?;
    let rows = read_all(&args.data, args.limit, paths::read)?;
    let truths = truths(args, &rows)?;
    let progress = Progress::new("score", Some(rows.len() as u64), "paths");
    let (scores, beyond) = paths::scores(&net, &*reward, &rows, &progress)?;
    progress.finish();
    let mut figures = figures(args, &rows, &truths, &scores, &*reward)?;
    figures.insert("steps_beyond".into(), json!(beyond.steps));
    figures.insert("paths_beyond".into(), json!(beyond.paths));
    if args.json {
        exit::print_line(&Value::Object(figures).to_string())?;
        return Ok(exit::DONE);
    }
    figures.iter().try_for_each(|(name, value)| print_figure(name, value))?;
    Ok(exit::DONE)
}

/// A line of the figures; of an object one a key.
fn print_figure(name: &str, value: &Value) -> anyhow::Result<()> {
    match (value, value.as_f64().filter(|_| !value.is_u64())) {
        (Value::Object(below), _) => {
            below.iter().try_for_each(|(key, value)| print_figure(&format!("{name} {key}"), value))
        }
        (_, Some(number)) => exit::print_line(&format!("{name} = {number:.4}")),
        _ => exit::print_line(&format!("{name} = {value}")),
    }
}

/// What is known of every row's steps.
fn truths(args: &Args, rows: &[PathRow]) -> anyhow::Result<Vec<Option<Vec<bool>>>> {
    let Some(name) = &args.task else {
        return Ok(rows
            .iter()
            .map(|row| match (&row.labels, row.first_wrong) {
                (Some(labels), _) => Some(labels.iter().map(|label| *label > 0.5).collect()),
                // Up to the first wrong step all are right; what follows is not judged as right.
                (None, Some(first)) => {
                    Some((0..row.steps.len()).map(|step| first.is_none_or(|first| step < first)).collect())
                }
                _ => None,
            })
            .collect());
    };
    let task = args.trained.plugins.task(name)?;
    let splits = [Split::Train, Split::Validation, Split::Test];
    let lookup = Lookup::new(&*task, &splits, &DataOptions::default())?;
    rows.iter()
        .map(|row| {
            let problem = lookup.find(&row.problem.id).with_context(|| row.name.clone())?;
            task.step_truth(&problem, &row.completion).with_context(|| row.name.clone())
        })
        .collect()
}

fn figures(
    args: &Args,
    rows: &[PathRow],
    truths: &[Option<Vec<bool>>],
    scores: &[Vec<f32>],
    reward: &dyn RewardModel,
) -> anyhow::Result<Map<String, Value>> {
    let mut figures = Map::new();
    figures.insert("rows".into(), json!(rows.len()));
    let bench: Vec<(Option<usize>, &Vec<f32>)> =
        rows.iter().zip(scores).filter_map(|(row, scores)| Some((row.first_wrong?, scores))).collect();
    if !bench.is_empty() {
        let guesses: Vec<_> = bench
            .iter()
            .map(|(truth, scores)| (*truth, quality::first_below(scores, args.threshold)))
            .collect();
        let Value::Object(found) = serde_json::to_value(quality::process_bench(&guesses))? else {
            anyhow::bail!("figures are no object")
        };
        figures.extend(found);
        let lengths: Vec<_> = bench.iter().map(|(truth, scores)| (*truth, scores.len())).collect();
        figures.insert("trivial_f1".into(), json!(quality::trivial_baselines(&lengths)));
        figures.insert("threshold".into(), json!(args.threshold));
    }
    let mut known = Vec::new();
    for ((row, truths), scores) in rows.iter().zip(truths).zip(scores) {
        let Some(truths) = truths else { continue };
        anyhow::ensure!(
            truths.len() == scores.len(),
            "{}: {} truths for {} steps",
            row.name,
            truths.len(),
            scores.len()
        );
        known.push(ScoredTruth {
            problem: row.problem.id.clone(),
            scores: scores.clone(),
            truths: truths.clone(),
            reward: reward.aggregate(scores)?,
        });
    }
    anyhow::ensure!(
        !known.is_empty() || !bench.is_empty(),
        "nothing is known of these steps: give rows with \"labels\" or \"label\", or --task with a step truth"
    );
    if !known.is_empty() {
        let Value::Object(found) = serde_json::to_value(quality::step_quality(&known))? else {
            anyhow::bail!("figures are no object")
        };
        figures.extend(found);
    }
    Ok(figures)
}
