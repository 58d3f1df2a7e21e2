//! `sipf report`: the HTML page about a run, made anew from its files.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use sipf_core::report::{self, Options};

use crate::{exit, writable};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Where the page goes [default: RUN/report.html]
    #[arg(long, value_name = "F.html")]
    out: Option<PathBuf>,
    /// Add seconds by stage; needs --out outside the run folder, which holds no times
    #[arg(long, requires = "out")]
    times: bool,
    /// Put every question into the page, however large it gets; a large run shows evenly spaced ones otherwise
    #[arg(long)]
    all_questions: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let out = args.out.clone().unwrap_or_else(|| args.run.join("report.html"));
    writable::file("--out", &out)?;
    if args.times {
        let run = args.run.canonicalize().with_context(|| args.run.display().to_string())?;
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
        let folder = folder.canonicalize().with_context(|| format!("--out {}", out.display()))?;
        ensure!(
            !folder.starts_with(&run),
            "--times: the run folder holds no times, give --out a place outside {}",
            run.display()
        );
    }
    report::write(&args.run, &out, &Options { times: args.times, all_questions: args.all_questions })?;
    exit::print_line(&match args.json {
        true => serde_json::json!({ "report": out }).to_string(),
        false => out.display().to_string(),
    })?;
    Ok(exit::DONE)
}
