//! `sipf sample`: paths of a task's questions, judged and sifted (Eq. 1).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use sipf_core::dataset::{self, DataOptions};
use sipf_core::generate::Engine;
use sipf_core::progress::Progress;
use sipf_core::record::{self, Sample};
use sipf_core::run_dir;
use sipf_core::sample::{self, EquationFilter, Quota, SampleCounts, SampleInput, SampleSettings, quota};
use sipf_core::verify::Verifier;
use sipf_plugin::{Domain, Problem};

use crate::given::{Given, at_least_one};
use crate::source::Source;
use crate::stage::{EngineFlags, Settled, StageFlags, object, said, texts, value};
use crate::{exit, interrupt, open};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task: its name or a plugin file
    #[arg(long, value_name = "T")]
    task: String,
    #[command(flatten)]
    source: Source,
    /// A data folder or one file [default: the published files]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// train, test, validation or all
    #[arg(long, value_name = "S", default_value = "train")]
    split: open::Splits,
    /// The first so many questions
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// Begin after so many questions
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// Samples of earlier iterations: nothing of them is kept twice, and quotas grow with what they hold (may stand
    /// several times)
    #[arg(long, value_name = "S.jsonl")]
    known: Vec<PathBuf>,
    /// The iteration's number [default: one more than that of --known, else 0]
    #[arg(long, value_name = "N")]
    iteration: Option<u64>,
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
}

/// Settings of the stage; the same names stand in `--config`.
#[derive(Debug, clap::Args)]
struct Flags {
    /// What logits are divided by [default: the task's]
    #[arg(long, value_name = "F")]
    temperature: Option<f32>,
    /// Keep the most likely tokens that hold this much probability together [default: 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Keep this many of the most likely tokens; 0: all [default: 0]
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// New tokens of a path at most [default: the task's]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Text that ends a path (may stand several times) [default: the task's]
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Attempts drawn at once per question; without --max-attempts, all there are [default: 30]
    #[arg(long, value_name = "N")]
    samples_per_question: Option<usize>,
    /// Attempts per question at most [default: 90]
    #[arg(long, value_name = "N")]
    max_attempts: Option<usize>,
    /// Distinct right paths to keep of a question; 0: all [default: the task's; with --known, by the growth rule]
    #[arg(long, value_name = "N")]
    positives: Option<usize>,
    /// Distinct wrong paths to keep of a question; 0: all [default: as --positives]
    #[arg(long, value_name = "N")]
    negatives: Option<usize>,
    /// Which paths a false equation leaves out: off, chosen (none here, but as chosen in pairs) or both [default: the
    /// task's]
    #[arg(long, value_name = "WHICH")]
    equation_filter: Option<EquationFilter>,
}

impl Flags {
    fn given(&self) -> Map<String, Value> {
        said([
            ("temperature", value(self.temperature)),
            ("top-p", value(self.top_p)),
            ("top-k", value(self.top_k)),
            ("max-tokens", value(self.max_tokens)),
            ("stop", texts(&self.stop)),
            ("wave", value(self.samples_per_question)),
            ("max-attempts", value(self.max_attempts.or(self.samples_per_question))),
            ("positives", value(self.positives)),
            ("negatives", value(self.negatives)),
            ("equation-filter", value(self.equation_filter)),
        ])
    }
}

pub(crate) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    let task = args.plugins.task(&args.task)?;
    let card = task.card();
    let settled = args.stage.settle(given, &SampleSettings::of(&card)?, args.settings.given())?;
    settled.settings.check()?;
    let limit = args.limit.map(|limit| limit + args.skip);
    let options = DataOptions { data: args.data.clone(), limit, ..DataOptions::default() };
    let loaded = dataset::load_all(&*task, &args.split.of(&*task), &options)?;
    let problems = loaded.problems.get(args.skip..).unwrap_or_default();
    let mut known: Vec<Sample> = Vec::new();
    for file in &args.known {
        known.extend(record::read(file)?);
    }
    let next = known.iter().map(|sample| sample.iteration + 1).max().unwrap_or(0);
    let iteration = args.iteration.unwrap_or(next);
    if args.stage.dry_run {
        let attempts = problems.len() * settled.settings.max_attempts;
        let plan = object(&json!({
            "rows_in": problems.len(),
            "attempts_at_most": attempts,
            "tokens_at_most": attempts * settled.settings.max_tokens,
        }))?;
        args.stage.print_plan(given, &settled, &plan)?;
        return Ok(exit::DONE);
    }
    let verifier = Verifier::new(task.clone(), open::sandbox(args.source.threads()?), args.rule.as_deref())?;
    let adapter = args.source.adapter().map(run_dir::hash_folder).transpose()?;
    let ingredients = json!({
        "task": card.name, "model": run_dir::hash_folder(args.source.folder()?)?, "adapter": adapter,
        "data": loaded.sha256, "skip": args.skip, "questions": problems.len(), "known": run_dir::hash_rows(&known)?,
        "iteration": iteration, "rule": args.rule, "seed": args.stage.seed, "settings": object(&settled.settings)?,
    });
    let output = args.stage.output("sample", &ingredients)?;
    if output.is_finished()? {
        return Ok(exit::DONE);
    }
    let tokenizer = args.source.tokenizer()?;
    let options = args.engine.options(args.source.folder()?, &tokenizer)?;
    let engine = Engine::new(&args.source.decoder()?, tokenizer, options)?;
    let quotas = quotas(problems, &known, &settled, card.domain);
    let input = SampleInput {
        policy: &engine,
        verifier: &verifier,
        problems,
        quotas: &quotas,
        known: &known,
        iteration,
        seed: args.stage.seed,
    };
    let progress = Progress::new("sample", Some(problems.len() as u64), "questions");
    let target = output.target();
    let units = sample::run(&input, &settled.settings, target, interrupt::flag(), &progress);
    let units = interrupt::kept(units, target.file)?;
    progress.finish();
    let drawn: u64 = units.iter().map(|unit| unit.tokens).sum();
    let rows: Vec<Sample> = units.into_iter().flat_map(|unit| unit.rows).collect();
    let mut summary = object(&json!({ "rows_in": problems.len(), "rows_out": rows.len() }))?;
    summary.extend(object(&SampleCounts::of(&rows))?);
    summary.insert("drawn_tokens".into(), drawn.into());
    output.finish(&rows, summary)?;
    Ok(exit::DONE)
}

/// What is asked for holds for every question; where nothing is and earlier samples are known, their number decides.
fn quotas(
    problems: &[Problem],
    known: &[Sample],
    settled: &Settled<SampleSettings>,
    domain: Domain,
) -> Vec<Quota> {
    let settings = &settled.settings;
    let fixed = settled.said.contains_key("positives") || settled.said.contains_key("negatives");
    if known.is_empty() || fixed {
        return vec![Quota::of(settings.positives, settings.negatives); problems.len()];
    }
    let mut kept: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for sample in known.iter().filter(|sample| sample.kept) {
        let (right, wrong) = kept.entry(&sample.problem).or_default();
        *(if sample.passed { right } else { wrong }) += 1;
    }
    let of = |problem: &Problem| kept.get(problem.id.as_str()).copied().unwrap_or_default();
    problems.iter().map(of).map(|(right, wrong)| quota::next(right, wrong, domain)).collect()
}
