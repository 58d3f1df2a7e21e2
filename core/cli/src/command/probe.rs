//! The hidden command that loads a native plugin in a child process and prints its manifest.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::exit::{self, print_line};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The library
    path: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let library = sipf_plugin_host::open::open_here(&args.path)?;
    print_line(&serde_json::to_string(library.manifest())?)?;
    Ok(exit::DONE)
}
