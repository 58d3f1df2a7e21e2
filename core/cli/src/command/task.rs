//! `sipf task`: which tasks there are, what one of them is, and its problems as rows to train on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::json;
use sipf_core::dataset::{self, DataOptions};
use sipf_plugin::{Problem, Role, Source, Split, Task, conformance};

use crate::exit::{self, print_line};
use crate::given::at_least_one;
use crate::open::{PluginFlags, Splits};
use crate::training::as_written;
use crate::writable;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The tasks that can be named
    List {
        #[command(flatten)]
        plugins: PluginFlags,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// A task's card, its splits and a sample problem with its prompt
    Show {
        /// Task name or plugin file
        task: String,
        /// Data folder or file: the sample problem is then the first of it [default: a problem that the task brings along]
        #[arg(long, value_name = "PATH")]
        data: Option<PathBuf>,
        #[command(flatten)]
        plugins: PluginFlags,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Write a split's problems as `{prompt, completion, problem}` rows for `sipf sft`
    Export(Export),
}

#[derive(Debug, clap::Args)]
struct Export {
    /// Task name or plugin file
    task: String,
    /// train, test, validation or all
    #[arg(long, value_name = "S", default_value = "train")]
    split: Splits,
    /// What the completion is: the reference solution, or what SFT learns from (noisy for some tasks)
    #[arg(long, value_enum, default_value_t = Which::Demonstration)]
    which: Which,
    /// Where rows go; `-` is standard output
    #[arg(long, default_value = "-")]
    out: PathBuf,
    /// Data folder or file; without it the published files
    #[arg(long)]
    data: Option<PathBuf>,
    /// The first N problems after `--skip`
    #[arg(long, value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// Leave out the first N problems
    #[arg(long, default_value_t = 0)]
    skip: usize,
    /// Add the rows to the file instead of replacing it
    #[arg(long)]
    append: bool,
    #[command(flatten)]
    plugins: PluginFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    Solution,
    Demonstration,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::List { plugins, json } => list(plugins, *json),
        Action::Show { task, data, plugins, json } => show(&*plugins.task(task)?, data.as_ref(), *json),
        Action::Export(args) => export(args),
    }
}

fn list(plugins: &PluginFlags, json: bool) -> anyhow::Result<ExitCode> {
    let registry = plugins.registry()?;
    let cards: Vec<_> = registry.builtin_tasks().iter().map(|task| task.card()).collect();
    let installed: Vec<_> = registry
        .list()
        .into_iter()
        .filter(|entry| entry.exports == "task" && entry.place != "builtin")
        .collect();
    if json {
        let builtin = cards
            .iter()
            .map(|card| json!({ "name": card.name, "summary": card.summary, "place": "builtin" }));
        let others = installed
            .iter()
            .map(|entry| json!({ "name": entry.name, "place": entry.place, "broken": entry.broken }));
        print_line(&json!({ "tasks": builtin.chain(others).collect::<Vec<_>>() }).to_string())?;
        return Ok(exit::DONE);
    }
    let width = cards
        .iter()
        .map(|card| card.name.len())
        .chain(installed.iter().map(|e| e.name.len()))
        .max()
        .unwrap_or(4);
    for card in &cards {
        print_line(&format!("{:width$}  {}", card.name, card.summary))?;
    }
    for entry in &installed {
        let broken = entry.broken.as_ref().map(|why| format!("  broken: {why}")).unwrap_or_default();
        print_line(&format!("{:width$}  plugin in {}{broken}", entry.name, entry.place))?;
    }
    Ok(exit::DONE)
}

fn export(args: &Export) -> anyhow::Result<ExitCode> {
    let task = args.plugins.task(&args.task)?;
    let limit = args.limit.map(|limit| limit.saturating_add(args.skip));
    let options = DataOptions { data: args.data.clone(), limit, ..DataOptions::default() };
    let problems = dataset::load_all(&*task, &args.split.of(&*task), &options)?.problems;
    let standard = args.out.to_str() == Some("-");
    let place = || match standard {
        true => "standard output".to_owned(),
        false => format!("--out {}", args.out.display()),
    };
    let unwritten = |error| exit::unwritten(error, &place());
    let mut out: Box<dyn Write> = match standard {
        true => Box::new(std::io::stdout().lock()),
        false => {
            writable::file("--out", &args.out)?;
            let mut file = std::fs::OpenOptions::new();
            file.create(true).write(true).append(args.append).truncate(!args.append);
            Box::new(std::io::BufWriter::new(file.open(&args.out).with_context(place)?))
        }
    };
    for problem in problems.iter().skip(args.skip) {
        let completion = match args.which {
            Which::Solution => problem.solution.as_deref(),
            Which::Demonstration => problem.demonstration_or_solution(),
        };
        let completion = completion.with_context(|| format!("{} has no reference solution", problem.id))?;
        let prompt = task.prompt(problem, Role::Policy)?;
        let row = json!({ "prompt": prompt, "completion": completion, "problem": problem.id });
        writeln!(out, "{row}").map_err(unwritten)?;
    }
    out.flush().map_err(unwritten)?;
    Ok(exit::DONE)
}

fn splits(task: &dyn Task) -> Vec<(Split, Source)> {
    let all = [Split::Train, Split::Validation, Split::Test].into_iter();
    let there = all.filter_map(|split| Some((split, task.source(split).ok()?)));
    there.filter(|(_, source)| *source != Source::Missing).collect()
}

/// The first problem of the data: of the split that a file belongs to, otherwise of the first that is there.
fn first_of(task: &dyn Task, data: &Path) -> anyhow::Result<Problem> {
    let options = DataOptions { data: Some(data.to_path_buf()), limit: Some(1), ..DataOptions::default() };
    let mut first_error = None;
    let mut splits = dataset::splits(task);
    splits.sort_by_key(|split| !has_file_named(task, *split, data));
    for split in splits {
        match dataset::load(task, split, &options).map(|loaded| loaded.problems.into_iter().next()) {
            Ok(Some(problem)) => return Ok(problem),
            Ok(None) => {}
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    match first_error {
        Some(error) => Err(error.into()),
        None => bail!("--data {}: holds no problem of task {}", data.display(), task.card().name),
    }
}

fn has_file_named(task: &dyn Task, split: Split, data: &Path) -> bool {
    let Ok(Source::Files { files }) = task.source(split) else { return false };
    files.iter().any(|file| Path::new(&file.path).file_name() == data.file_name())
}

fn show(task: &dyn Task, data: Option<&PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let card = task.card();
    let problem = match data {
        Some(data) => first_of(task, data)?,
        None => conformance::fixture_problems(task)
            .with_context(|| format!("task {}: fixtures", card.name))?
            .remove(0),
    };
    let prompt = task.prompt(&problem, Role::Policy)?;
    let splits = splits(task);
    if json {
        let splits: Vec<_> =
            splits.iter().map(|(split, source)| json!({ "split": split, "source": source })).collect();
        let object = json!({ "card": card, "splits": splits, "problem": problem, "prompt": prompt });
        print_line(&object.to_string())?;
        return Ok(exit::DONE);
    }
    print_line(&format!("{}: {}", card.name, card.summary))?;
    for (key, value) in serde_json::to_value(&card)?.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "name" | "summary")
            && !value.is_null()
            && value != &json!([])
            && value != &json!({})
            && value != &json!("")
        {
            print_line(&format!("  {key} = {}", as_written(value)))?;
        }
    }
    for (split, source) in &splits {
        let from = match source {
            Source::Files { files } => {
                files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(", ")
            }
            _ => "generated, endless".into(),
        };
        print_line(&format!("  {split}: {from}"))?;
    }
    print_line(&format!("\nsample problem {}\n--- prompt\n{prompt}", problem.id))?;
    if let Some(solution) = &problem.solution {
        print_line(&format!("--- reference solution\n{solution}"))?;
    }
    Ok(exit::DONE)
}
