//! `sipf align`: preference training on pairs.

mod train;

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(flatten)]
    train: train::Args,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    train::run(&args.train)
}
