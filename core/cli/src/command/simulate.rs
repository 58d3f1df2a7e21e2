//! `sipf simulate`: step labels by rollouts (Eq. 2-3).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value, json};
use sipf_core::dataset::{self, DataOptions, Lookup};
use sipf_core::generate::Engine;
use sipf_core::progress::Progress;
use sipf_core::record::{self, Sample, StepLabels};
use sipf_core::run_dir;
use sipf_core::simulate::{self, LabelCounts, SimulateInput, SimulateSettings};
use sipf_core::verify::Verifier;
use sipf_plugin::Problem;

use crate::given::{Given, at_least_one};
use crate::source::Source;
use crate::stage::{EngineFlags, StageFlags, object, said, texts, value};
use crate::{exit, interrupt, open};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task: its name or a plugin file
    #[arg(long, value_name = "T")]
    task: String,
    /// Who continues the steps: a model folder, a Hub id (owner/name@revision), tiny or tiny-strong
    #[arg(long, value_name = "M")]
    simulator: String,
    /// PEFT adapter to put on it
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Samples, as `sipf sample` writes them (may stand several times)
    #[arg(long, value_name = "S.jsonl", required = true)]
    data: Vec<PathBuf>,
    /// Where the samples' questions lie: a data folder or one file [default: the published files]
    #[arg(long, value_name = "PATH")]
    problems: Option<PathBuf>,
    /// Samples of the first so many questions
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// The answer rule that `passed` means [default: the task's]
    #[arg(long, value_name = "R")]
    rule: Option<String>,
    #[command(flatten)]
    stage: StageFlags,
    #[command(flatten)]
    settings: Flags,
    #[command(flatten)]
    engine: EngineFlags,
    #[command(flatten)]
    plugins: open::PluginFlags,
    /// auto, cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Threads; the results do not depend on it
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    threads: Option<usize>,
}

/// Settings of the stage; the same names stand in `--config`.
#[derive(Debug, clap::Args)]
struct Flags {
    /// Rollouts of a step at most, K [default: 8]
    #[arg(long, value_name = "K")]
    rollouts: Option<u32>,
    /// A step is right when more than so many rollouts are [default: 0]
    #[arg(long, value_name = "MU")]
    threshold: Option<u32>,
    /// Run all K rollouts of every step, its label decided or not
    #[arg(long)]
    full_counts: bool,
    /// Labels are the share of right rollouts; runs all K
    #[arg(long)]
    soft_labels: bool,
    /// What logits are divided by [default: the task's]
    #[arg(long, value_name = "F")]
    temperature: Option<f32>,
    /// Keep the most likely tokens that hold this much probability together [default: 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Keep this many of the most likely tokens; 0: all [default: 0]
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// New tokens of a rollout at most [default: the task's]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Text that ends a rollout (may stand several times) [default: the task's]
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Leave out questions that a blind guess gets right more often than this [default: the task's]
    #[arg(long, value_name = "F")]
    max_chance: Option<f32>,
    /// Paths labelled of a question, wrong and right ones in turn; 0: all [default: 4]
    #[arg(long, value_name = "N")]
    paths_per_question: Option<usize>,
    /// Questions of which paths are labelled, drawn by seed; 0: all [default: 0]
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    /// Add the reference solutions of these questions, every step right [default: true]
    #[arg(long, value_name = "BOOL")]
    gold: Option<bool>,
}

impl Flags {
    fn given(&self) -> Map<String, Value> {
        said([
            ("rollouts", value(self.rollouts)),
            ("threshold", value(self.threshold)),
            ("full-counts", self.full_counts.then_some(Value::Bool(true))),
            ("soft-labels", self.soft_labels.then_some(Value::Bool(true))),
            ("temperature", value(self.temperature)),
            ("top-p", value(self.top_p)),
            ("top-k", value(self.top_k)),
            ("max-tokens", value(self.max_tokens)),
            ("stop", texts(&self.stop)),
            ("max-chance", value(self.max_chance)),
            ("paths-per-question", value(self.paths_per_question)),
            ("questions", value(self.questions)),
            ("gold", value(self.gold)),
        ])
    }
}

pub(crate) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    let task = args.plugins.task(&args.task)?;
    let card = task.card();
    let settled = args.stage.settle(given, &SimulateSettings::of(&card), args.settings.given())?;
    let (settings, seed) = (&settled.settings, args.stage.seed);
    settings.check()?;
    let mut samples: Vec<Sample> = Vec::new();
    for file in &args.data {
        samples.extend(record::read(file)?);
    }
    let rows_in = samples.len();
    let problems = problems(args, &*task, &samples)?;
    let selection = simulate::select(&problems, &samples, settings, seed);
    if args.stage.dry_run {
        let plan = object(&json!({
            "rows_in": rows_in,
            "questions": selection.questions,
            "too_easy_to_guess": selection.too_easy_to_guess,
            "paths": selection.paths.len(),
            "rollouts_at_most": simulate::most_rollouts(&selection.paths, settings),
        }))?;
        args.stage.print_plan(given, &settled, &plan)?;
        return Ok(exit::DONE);
    }
    let source = Source::of(&args.simulator, args.adapter.as_deref(), &args.device, args.threads);
    let verifier = Verifier::new(task.clone(), open::sandbox(source.threads()?), args.rule.as_deref())?;
    let adapter = args.adapter.as_deref().map(run_dir::hash_folder).transpose()?;
    let ingredients = json!({
        "task": card.name, "simulator": run_dir::hash_folder(source.folder()?)?, "adapter": adapter,
        "samples": run_dir::hash_rows(&samples)?, "problems": run_dir::hash_rows(&problems)?,
        "rule": args.rule, "seed": seed, "settings": object(settings)?,
    });
    let output = args.stage.output("simulate", &ingredients)?;
    if output.is_finished()? {
        return Ok(exit::DONE);
    }
    let tokenizer = source.tokenizer()?;
    let options = args.engine.options(source.folder()?, &tokenizer)?;
    let engine = Engine::new(&source.decoder()?, tokenizer, options)?;
    let name = source.name();
    let input =
        SimulateInput { simulator: &engine, name: &name, verifier: &verifier, paths: &selection.paths, seed };
    let progress = Progress::new("simulate", Some(selection.paths.len() as u64), "paths");
    if selection.too_easy_to_guess > 0 {
        progress.tell(&format!(
            "{} questions are left out: a blind guess is right more often than {} of the time (--max-chance)",
            selection.too_easy_to_guess, settings.max_chance
        ));
    }
    let target = output.target();
    let units = simulate::run(&input, settings, target, interrupt::flag(), &progress);
    let units = interrupt::kept(units, target.file)?;
    progress.finish();
    let tokens: u64 = units.iter().map(|unit| unit.tokens).sum();
    let left_out = units.iter().filter(|unit| unit.rows.is_empty()).count();
    let rows: Vec<StepLabels> = units.into_iter().flat_map(|unit| unit.rows).collect();
    let mut summary = object(&json!({
        "rows_in": rows_in,
        "rows_out": rows.len(),
        "questions": selection.questions,
        "too_easy_to_guess": selection.too_easy_to_guess,
        "left_out": left_out,
    }))?;
    summary.extend(object(&LabelCounts::of(&rows))?);
    summary.insert("tokens".into(), tokens.into());
    output.finish(&rows, summary)?;
    Ok(exit::DONE)
}

/// The questions of the samples, in the order in which they first occur.
fn problems(args: &Args, task: &dyn sipf_plugin::Task, samples: &[Sample]) -> anyhow::Result<Vec<Problem>> {
    let options = DataOptions { data: args.problems.clone(), ..DataOptions::default() };
    let lookup = Lookup::new(task, &dataset::splits(task), &options)
        .context("the samples' questions are needed: --problems PATH says where they lie")?;
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for sample in samples.iter().filter(|sample| seen.insert(sample.problem.as_str())) {
        if args.limit.is_some_and(|limit| problems.len() >= limit) {
            break;
        }
        problems.push(lookup.find(&sample.problem).with_context(|| sample.id.clone())?);
    }
    Ok(problems)
}
