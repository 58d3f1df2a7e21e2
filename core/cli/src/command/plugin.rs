//! `sipf plugin`: list, write, check and install plugins.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::json;
use sipf_plugin::conformance::{self, Finding, Held};
use sipf_plugin::{RewardModel, Task};
use sipf_plugin_host::{discover, registry::is_path, scaffold, transport::Kind};

use crate::exit::{self, print_line};
use crate::open::PluginFlags;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Everything that can be named: built-in, installed, broken
    List {
        #[command(flatten)]
        plugins: PluginFlags,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Write a new plugin crate that builds, passes `plugin check` and runs
    New {
        /// Name of the plugin and its folder: small letters, digits, hyphens
        name: String,
        /// A reward model instead of a task
        #[arg(long)]
        reward: bool,
        /// Where to make the folder
        #[arg(long, value_name = "DIR", default_value = ".")]
        into: PathBuf,
    },
    /// Load a plugin (or name a built-in) and check everything it must hold; exit 1 when something does not
    Check {
        /// Plugin file, or a name
        plugin: String,
        #[command(flatten)]
        plugins: PluginFlags,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Check a plugin file and copy it where names are looked up
    Install {
        /// Plugin file
        file: PathBuf,
        /// Install here instead of the data home
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::List { plugins, json } => list(plugins, *json),
        Action::New { name, reward, into } => new(name, *reward, into),
        Action::Check { plugin, plugins, json } => check(plugin, plugins, *json),
        Action::Install { file, into } => install(file, into.as_deref()),
    }
}

fn list(plugins: &PluginFlags, json: bool) -> anyhow::Result<ExitCode> {
    let list = plugins.registry()?.list();
    if json {
        print_line(&json!({ "plugins": list }).to_string())?;
        return Ok(exit::DONE);
    }
    let width = list.iter().map(|entry| entry.name.len()).max().unwrap_or(4).max(4);
    print_line(&format!("{:width$}  {:6}  {:3}  WHERE", "NAME", "KIND", "API"))?;
    for entry in list {
        let place = match (&entry.broken, entry.kind) {
            (Some(why), _) => format!("broken: {why}"),
            (None, Some(Kind::Builtin) | None) => entry.place,
            (None, Some(kind)) => format!("{kind}, {}", entry.place),
        };
        print_line(&format!("{:width$}  {:6}  {:3}  {place}", entry.name, entry.exports, entry.api))?;
    }
    Ok(exit::DONE)
}

fn new(name: &str, reward: bool, into: &Path) -> anyhow::Result<ExitCode> {
    let kind = if reward { scaffold::Kind::Reward } else { scaffold::Kind::Task };
    let folder = scaffold::write(name, kind, into)?;
    print_line(&format!(
        "wrote {}\nnext:\n  cd {}\n  cargo test\n  cargo build --release",
        folder.display(),
        folder.display()
    ))?;
    print_line(&format!("  sipf plugin check target/release/{}", scaffold::library_file(name)))?;
    Ok(exit::DONE)
}

/// What a plugin exports, opened.
struct Exports {
    tasks: Vec<Arc<dyn Task>>,
    rewards: Vec<Arc<dyn RewardModel>>,
}

fn open(plugin: &str, plugins: &PluginFlags) -> anyhow::Result<Exports> {
    let registry = plugins.registry()?;
    if is_path(plugin) {
        let library = registry.open(Path::new(plugin))?;
        let manifest = library.manifest();
        return Ok(Exports {
            tasks: manifest.tasks.iter().filter_map(|card| library.task(&card.name)).collect(),
            rewards: manifest.rewards.iter().filter_map(|card| library.reward(&card.name)).collect(),
        });
    }
    match (registry.task(plugin), registry.reward(plugin)) {
        (Ok(task), _) => Ok(Exports { tasks: vec![task], rewards: Vec::new() }),
        (_, Ok(reward)) => Ok(Exports { tasks: Vec::new(), rewards: vec![reward] }),
        (Err(error), _) => Err(error.into()),
    }
}

fn check(plugin: &str, plugins: &PluginFlags, json: bool) -> anyhow::Result<ExitCode> {
    let exports = match open(plugin, plugins) {
        Ok(exports) => exports,
        // A file that is there but cannot be loaded has failed its check.
        Err(error) if Path::new(plugin).is_file() => return Err(exit::EndedEarly(error).into()),
        Err(error) => return Err(error),
    };
    let sandbox = crate::open::sandbox()?;
    let mut all = true;
    let mut reports = Vec::new();
    for task in &exports.tasks {
        let findings = conformance::check_task(&**task, sandbox.as_deref());
        let latency = conformance::median_latency(&**task).ok();
        all &= conformance::all_hold(&findings);
        reports.push(report(&task.card().name, "task", &findings, latency, json)?);
    }
    for reward in &exports.rewards {
        let findings = conformance::check_reward(&**reward);
        all &= conformance::all_hold(&findings);
        reports.push(report(&reward.card().name, "reward", &findings, None, json)?);
    }
    if json {
        print_line(&json!({ "passed": all, "exports": reports }).to_string())?;
    }
    Ok(if all { exit::DONE } else { exit::did_not_hold() })
}

fn report(
    name: &str,
    exports: &str,
    findings: &[Finding],
    latency: Option<f64>,
    json: bool,
) -> anyhow::Result<serde_json::Value> {
    let mut rows = Vec::new();
    if !json {
        print_line(&format!("{exports} {name}"))?;
    }
    for finding in findings {
        let (held, why) = match &finding.held {
            Held::Yes => ("ok", ""),
            Held::No(why) => ("FAILED", why.as_str()),
            Held::Skipped(why) => ("skipped", why.as_str()),
        };
        rows.push(json!({ "property": finding.property, "held": held.to_lowercase(), "why": why }));
        if !json {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            print_line(&format!("  {held:7}  {}{why}", finding.property))?;
        }
    }
    if let (Some(seconds), false) = (latency, json) {
        print_line(&format!("  median time of one `verify` call: {:.1} us", seconds * 1e6))?;
    }
    Ok(json!({ "name": name, "exports": exports, "findings": rows }))
}

fn install(file: &Path, into: Option<&Path>) -> anyhow::Result<ExitCode> {
    if !file.is_file() {
        bail!("{}: not found", file.display());
    }
    let into = match into {
        Some(into) => into.to_path_buf(),
        None => discover::data_home()
            .context("neither XDG_DATA_HOME nor HOME is set: say where with --into DIR")?,
    };
    let plugins = PluginFlags::default();
    let name = if is_path(&file.to_string_lossy()) { file.to_path_buf() } else { Path::new(".").join(file) };
    let code = check(&name.to_string_lossy(), &plugins, false)?;
    if code != exit::DONE {
        return Ok(code);
    }
    let library = plugins.registry()?.open(&name)?;
    let folder = discover::install(&name, library.kind(), library.manifest(), &into)?;
    print_line(&format!("installed in {}", folder.display()))?;
    Ok(exit::DONE)
}
