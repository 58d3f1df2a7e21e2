//! `sipf align`: preference training on pairs; `sipf align pairs` makes them.

mod pairs;
mod train;

use std::process::ExitCode;

use clap::Subcommand;

use crate::given::Given;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    train: train::Args,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make preference pairs of scored samples
    Pairs(pairs::Args),
}

pub(crate) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    match &args.action {
        Some(Action::Pairs(args)) => pairs::run(args, given),
        None => train::run(&args.train, given),
    }
}
