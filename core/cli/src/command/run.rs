//! `sipf run`: the whole loop in a run folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde_json::json;
use sipf_core::config::Layer;
use sipf_core::iterate::{self, Headline, Outcome, Parts, Place};
use sipf_core::machine;
use sipf_core::run_dir::RunDir;

use super::plan;
use crate::exit::{self, EndedEarly, print_line, tell};
use crate::given::Given;
use crate::interrupt;
use crate::requirements;
use crate::settings::{Resolved, RunFlags};
use crate::writable;

/// Where runs go that are given no folder.
const RUNS: &str = "runs";
/// Sequences at once on the CPU: beyond this the small models gain nothing.
const BATCH: usize = 128;
/// Memory for keys and values.
const CACHE_BYTES: usize = 1 << 30;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: RunFlags,
    /// Where everything goes [default: runs/TASK-METHOD-SEED]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Go on with the settings of the run folder (the newest below runs/ where none is given); flags still win
    #[arg(long)]
    resume: bool,
    /// Take finished stages from another run where settings and inputs are the same
    #[arg(long, value_name = "RUN")]
    reuse: Option<PathBuf>,
    /// Print every setting and where it came from, then the plan, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    let resumed = match args.resume {
        true => Some(args.run_dir.clone().map_or_else(newest, Ok)?),
        false => None,
    };
    let earlier = resumed.as_deref().map(settings_of).transpose()?;
    let resolved = args.flags.resolve(given, earlier)?;
    if args.dry_run {
        return plan::show(given, &args.flags, &resolved, args.json);
    }
    let config = &resolved.config;
    let threads = machine::use_threads(args.flags.threads)?;
    let (device, why) = machine::device(&args.flags.device)?;
    exit::tell_device(device.is_cpu(), &why);
    requirements::check(&args.flags, &resolved, args.run_dir.as_deref())?;
    iterate::check(config, &*resolved.task, &*resolved.reward, args.flags.data.as_deref())?;
    let default = || {
        let method =
            serde_json::to_value(config.method).ok().and_then(|name| name.as_str().map(str::to_owned));
        Path::new(RUNS).join(format!("{}-{}-{}", config.task, method.unwrap_or_default(), config.seed))
    };
    let folder = args.run_dir.clone().or(resumed).unwrap_or_else(default);
    if let Some(other) = &args.reuse {
        ensure!(other.join("manifest.json").is_file(), "--reuse {}: is no run folder", other.display());
    }
    let dtype = machine::weights_type(&device);
    let parts = Parts {
        task: resolved.task.clone(),
        transfer: resolved.transfer.clone(),
        reward: resolved.reward.clone(),
        execute: crate::open::sandbox(threads),
        plugin_hash: resolved.plugin_hash.clone(),
        data: args.flags.data.clone(),
        place: Place { device, dtype, batch: BATCH, cache_bytes: CACHE_BYTES },
        reuse: args.reuse.clone(),
    };
    writable::folder("--run-dir", &folder)?;
    let mut run = RunDir::open(&folder)?;
    run.notes().iter().for_each(|note| tell(note));
    let outcome = iterate::run(&mut run, config, &parts, interrupt::flag());
    let outcome = interrupt::kept(outcome, &folder).map_err(|error| match exit::is_interrupted(&error) {
        false if run.has_begun() => EndedEarly(error).into(),
        _ => error,
    })?;
    print(&outcome, &folder, &resolved, args.json)?;
    Ok(exit::DONE)
}

/// The settings of a run folder, as a layer.
fn settings_of(folder: &Path) -> anyhow::Result<Layer> {
    let path = folder.join("run.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("--resume: {} (give the folder of a run with --run-dir)", path.display()))?;
    Ok(Layer::of_toml(path.display().to_string(), &text)?)
}

/// The run folder below runs/ that was written to last.
fn newest() -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(RUNS)
        .with_context(|| format!("--resume: there is no folder {RUNS}; give --run-dir DIR"))?;
    let when = |path: &Path| path.join("run.toml").metadata().and_then(|data| data.modified()).ok();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((when(&path)?, path)))
        .max()
        .map(|(_, path)| path)
        .with_context(|| format!("--resume: no run in {RUNS}; give --run-dir DIR"))
}

fn print(outcome: &Outcome, folder: &Path, resolved: &Resolved, as_json: bool) -> anyhow::Result<()> {
    let report = folder.join("report.html");
    if as_json {
        let mut object = serde_json::to_value(outcome)?;
        object["run_dir"] = json!(folder);
        object["report"] = json!(report);
        return print_line(&object.to_string());
    }
    let percent = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share));
    let line = |name: &str, headline: &Headline| {
        let measures: Vec<String> = headline
            .measures
            .iter()
            .map(|(name, value)| format!("{name} {}", percent(value.as_f64())))
            .collect();
        print_line(&format!(
            "{name:<12} greedy {:>7}  sampled {:>7}  {}",
            percent(headline.accuracy),
            percent(headline.sampled_accuracy),
            measures.join("  ")
        ))
    };
    print_line(&format!("{} on {} test problems", resolved.config.task, outcome.baseline.problems))?;
    line("supervised", &outcome.baseline)?;
    if let Some(control) = &outcome.control {
        line("control", control)?;
    }
    for (number, headline) in (1..).zip(&outcome.iterations) {
        line(&format!("iteration {number}"), headline)?;
    }
    for (stage, why) in &outcome.skipped {
        print_line(&format!("{stage} was skipped: {why}"))?;
    }
    print_line(&format!("report: {}", report.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_settings_cannot_be_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let error = settings_of(folder.path()).unwrap_err().to_string();
        assert!(error.contains("--run-dir"), "{error}");
    }
}
