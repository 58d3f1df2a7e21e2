//! `sipf align pairs`: preference pairs from samples and their scores (Eq. 6).

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use sipf_core::align::pairs::{self, PairPolicy, PairSettings};
use sipf_core::record::{self, Sample, ScoredPath};
use sipf_core::run_dir;
use sipf_core::sample::EquationFilter;

use crate::exit;
use crate::given::Given;
use crate::stage::{StageFlags, object, said, value};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Samples, as `sipf sample` writes them (may stand several times)
    #[arg(long, value_name = "S.jsonl", required = true)]
    data: Vec<PathBuf>,
    /// Their scores, as `sipf reward score` writes them (may stand several times); not needed for --pair-policy outcome
    #[arg(long, value_name = "SCORES.jsonl")]
    scores: Vec<PathBuf>,
    /// The iteration that the pairs are for; with the seed, it decides which are taken
    #[arg(long, value_name = "N", default_value_t = 1)]
    iteration: u64,
    #[command(flatten)]
    stage: StageFlags,
    #[command(flatten)]
    settings: Flags,
}

/// Settings of the stage; the same names stand in `--config`.
#[derive(Debug, clap::Args)]
struct Flags {
    /// How much better the chosen path's reward is at least, eta [default: 0.3]
    #[arg(long, value_name = "ETA")]
    margin: Option<f32>,
    /// outcome_and_margin, margin_only or outcome [default: outcome_and_margin]
    #[arg(long, value_name = "POLICY")]
    pair_policy: Option<PairPolicy>,
    /// What every step of a chosen path scores at least [default: 0.5]
    #[arg(long, value_name = "F")]
    step_floor: Option<f32>,
    /// Pairs of a question at most; 0: all [default: 0]
    #[arg(long, value_name = "N")]
    pairs_per_question: Option<usize>,
    /// Pairs altogether at most, drawn by seed; 0: all [default: 0]
    #[arg(long, value_name = "N")]
    max_pairs: Option<usize>,
    /// Which paths with a false equation are left out: off, chosen or both [default: off]
    #[arg(long, value_name = "WHICH")]
    equation_filter: Option<EquationFilter>,
}

impl Flags {
    fn given(&self) -> Map<String, Value> {
        said([
            ("margin", value(self.margin)),
            ("policy", value(self.pair_policy)),
            ("step-floor", value(self.step_floor)),
            ("pairs-per-question", value(self.pairs_per_question)),
            ("max-pairs", value(self.max_pairs)),
            ("equation-filter", value(self.equation_filter)),
        ])
    }
}

pub(super) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    let settled = args.stage.settle(given, &PairSettings::default(), args.settings.given())?;
    let settings = &settled.settings;
    settings.check()?;
    anyhow::ensure!(
        !args.scores.is_empty() || settings.policy == PairPolicy::Outcome,
        "no scores: say --scores SCORES.jsonl (sipf reward score makes them), or --pair-policy outcome"
    );
    let mut samples: Vec<Sample> = Vec::new();
    for file in &args.data {
        samples.extend(record::read(file)?);
    }
    let mut scores: Vec<ScoredPath> = Vec::new();
    for file in &args.scores {
        scores.extend(record::read(file)?);
    }
    let found = pairs::pairs(&samples, &scores, settings, args.stage.seed, args.iteration);
    let mut summary = object(&json!({ "rows_in": samples.len(), "rows_out": found.pairs.len() }))?;
    summary.extend(object(&found.counts)?);
    if args.stage.dry_run {
        args.stage.print_plan(given, &settled, &summary)?;
        return Ok(exit::DONE);
    }
    let ingredients = json!({
        "samples": run_dir::hash_rows(&samples)?, "scores": run_dir::hash_rows(&scores)?,
        "iteration": args.iteration, "seed": args.stage.seed, "settings": object(settings)?,
    });
    let output = args.stage.output("pairs", &ingredients)?;
    if !output.is_finished()? {
        output.finish(&found.pairs, summary)?;
    }
    Ok(exit::DONE)
}
