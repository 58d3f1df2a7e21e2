//! The commands, one file each: its flags and what it does. `run` is a table.

mod align;
mod bench;
mod completions;
mod doctor;
mod evaluate;
mod generate;
mod model;
pub(crate) mod plan;
mod plugin;
mod probe;
mod report;
mod reward;
mod run;
mod sample;
mod sandbox;
mod sft;
mod simulate;
mod task;
mod verify;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use sipf_core::progress::{self, Loudness};

use crate::given::Given;

/// How a setting is given.
const SETTINGS: &str = "Every setting is a flag (--top-p 0.9), else a variable (SIPF_TOP_P=0.9), else a key of --config \
    FILE.toml (top-p = 0.9).";

/// A small language model teaches itself to reason: sample, simulate, reward, align, evaluate.
#[derive(Debug, Parser)]
#[command(name = "sipf", version, max_term_width = 110, after_help = SETTINGS)]
pub(crate) struct Arguments {
    /// Say more on standard error: where models lie and run, and progress more often
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Say only what went wrong
    #[arg(short, long, global = true)]
    quiet: bool,
    /// When to colour help and errors
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: clap::ColorChoice,
    /// Settings in TOML, under the names of the flags; a flag and its variable win over them
    #[arg(long, global = true, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

impl Arguments {
    fn loudness(&self) -> Loudness {
        match (self.quiet, self.verbose) {
            (true, _) => Loudness::Quiet,
            (false, 0) => Loudness::Normal,
            _ => Loudness::Verbose,
        }
    }
}

/// What `--color` says, if it stands anywhere among the words: help is printed while they are read.
pub(crate) fn colour(words: &[OsString]) -> clap::ColorChoice {
    let words: Vec<Cow<'_, str>> =
        words.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--").collect();
    let said = words.iter().enumerate().rev().find_map(|(place, word)| match word.strip_prefix("--color") {
        Some("") => words.get(place + 1).map(|word| word.as_ref()),
        Some(rest) => rest.strip_prefix('='),
        None => None,
    });
    said.and_then(|when| clap::ColorChoice::from_str(when, true).ok()).unwrap_or_default()
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train on preference pairs: ORPO, DPO, RPO, or the chosen halves alone
    Align(align::Args),
    /// Run the whole loop: sample, simulate, reward, align, evaluate, again and again
    Run(run::Args),
    /// What a run would cost, stage by stage
    Plan(plan::Args),
    /// Measure this machine: figures as JSON
    Bench(bench::Args),
    /// What this machine can do and what is missing
    Doctor(doctor::Args),
    /// How right a model is on a task: greedy, sampled, pass@k, votes, with intervals
    Evaluate(evaluate::Args),
    /// Complete prompts
    Generate(generate::Args),
    /// What a checkpoint is; checkpoints from other formats
    Model(model::Args),
    /// Make a run's HTML report anew
    Report(report::Args),
    /// Judge a task's reference solutions, or completions from a file
    Verify(verify::Args),
    /// Print shell completions or the man page
    Completions(completions::Args),
    /// List, write, check and install plugins
    Plugin(plugin::Args),
    /// Run untrusted Python programs apart from everything else
    Sandbox(sandbox::Args),
    /// Train, use and measure reward models
    Reward(reward::Args),
    /// Draw paths of a task's questions, judge and sift them
    Sample(sample::Args),
    /// Supervised fine-tuning on rows
    Sft(sft::Args),
    /// Label the steps of paths by rollouts
    Simulate(simulate::Args),
    /// Which tasks there are, and what one of them is
    Task(task::Args),
    #[command(name = "__probe", hide = true)]
    Probe(probe::Args),
}

pub(crate) fn run(arguments: Arguments, given: &Given) -> anyhow::Result<ExitCode> {
    progress::set_loudness(arguments.loudness());
    match arguments.command {
        Command::Align(args) => align::run(&args, given),
        Command::Run(args) => run::run(&args, given),
        Command::Plan(args) => plan::run(&args, given),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Evaluate(args) => evaluate::run(&args, given),
        Command::Generate(args) => generate::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Plugin(args) => plugin::run(&args),
        Command::Sandbox(args) => sandbox::run(&args),
        Command::Reward(args) => reward::run(&args, given),
        Command::Sample(args) => sample::run(&args, given),
        Command::Sft(args) => sft::run(&args, given),
        Command::Simulate(args) => simulate::run(&args, given),
        Command::Task(args) => task::run(&args),
        Command::Probe(args) => probe::run(&args),
    }
}
