//! `sipf doctor`: what this machine can do and what is missing, one line a check.

mod machine;
mod places;
mod sandbox;

use std::process::ExitCode;

use serde::Serialize;

use crate::exit;
use crate::open::PluginFlags;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    plugins: PluginFlags,
}

/// What was looked at. Something that is slower or less than it could be is `ok` and says so; `ok` is false only
/// where a command would fail.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    message: String,
}

impl Check {
    fn good(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, ok: true, message: message.into() }
    }

    fn broken(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, ok: false, message: message.into() }
    }

    fn of(name: &'static str, found: Result<String, impl std::fmt::Display>) -> Self {
        match found {
            Ok(message) => Self::good(name, message),
            Err(error) => Self::broken(name, error.to_string()),
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut checks = machine::checks();
    checks.extend(sandbox::checks());
    checks.extend(places::checks(&args.plugins)?);
    match args.json {
        true => exit::print_line(&serde_json::json!({ "checks": checks }).to_string())?,
        false => {
            let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
            for check in &checks {
                let held = if check.ok { "ok    " } else { "BROKEN" };
                exit::print_line(&format!("{held}  {:width$}  {}", check.name, check.message))?;
            }
        }
    }
    Ok(if checks.iter().all(|check| check.ok) { exit::DONE } else { exit::did_not_hold() })
}
