//! `sipf plugin`: list, write, check and install plugins.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::Subcommand;
use serde_json::json;
use sipf_plugin::conformance::{self, Finding, Held};
use sipf_plugin::{RewardModel, Task};
use sipf_plugin_host::{discover, registry::is_path, scaffold, transport::Kind};

use crate::builtin;
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
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Load a plugin (or name a built-in) and check everything it must hold; exit 1 when something does not, 2 when it
    /// cannot be loaded
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
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::List { plugins, json } => list(plugins, *json),
        Action::New { name, reward, into, json } => new(name, *reward, into, *json),
        Action::Check { plugin, plugins, json } => {
            let checked = check(plugin, plugins, *json)?;
            if *json {
                print_line(&checked.object().to_string())?;
            }
            Ok(checked.status())
        }
        Action::Install { file, into, json } => install(file, into.as_deref(), *json),
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

fn new(name: &str, reward: bool, into: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let mut builtin = builtin::tasks().into_iter().map(|task| task.card().name);
    let mut rewards = builtin::rewards().into_iter().map(|reward| reward.card().name);
    ensure!(
        !builtin.any(|known| known == name) && !rewards.any(|known| known == name),
        "name {name:?} is a built-in's: both could not be told apart; choose another"
    );
    let kind = if reward { scaffold::Kind::Reward } else { scaffold::Kind::Task };
    let folder = scaffold::write(name, kind, into)?;
    let library = Path::new("target/release").join(scaffold::library_file(name));
    if json {
        print_line(&json!({ "name": name, "folder": folder, "library": library }).to_string())?;
        return Ok(exit::DONE);
    }
    print_line(&format!(
        "wrote {}\nnext:\n  cd {}\n  cargo test\n  cargo build --release",
        folder.display(),
        folder.display()
    ))?;
    print_line(&format!("  sipf plugin check {}", library.display()))?;
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

/// What a check found.
#[derive(Default)]
struct Checked {
    held: usize,
    failed: usize,
    skipped: usize,
    exports: Vec<serde_json::Value>,
    /// Why there is nothing to check.
    error: Option<String>,
}

impl Checked {
    fn passed(&self) -> bool {
        self.failed == 0 && self.error.is_none()
    }

    fn add(&mut self, findings: &[Finding]) {
        for finding in findings {
            match finding.held {
                Held::Yes => self.held += 1,
                Held::No(_) => self.failed += 1,
                Held::Skipped(_) => self.skipped += 1,
            }
        }
    }

    fn object(&self) -> serde_json::Value {
        let mut object = json!({
            "passed": self.passed(), "held": self.held, "failed": self.failed, "skipped": self.skipped,
            "exports": self.exports,
        });
        if let Some(error) = &self.error {
            object["error"] = json!(error);
        }
        object
    }

    fn in_words(&self, plugin: &str) -> String {
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        format!("{plugin}: {verdict}: {} properties hold, {} do not{skipped}", self.held, self.failed)
    }

    /// What cannot be loaded could not be checked.
    fn status(&self) -> ExitCode {
        match self.passed() {
            true => exit::DONE,
            false if self.error.is_some() => exit::could_not_start(),
            false => exit::did_not_hold(),
        }
    }
}

fn check(plugin: &str, plugins: &PluginFlags, json: bool) -> anyhow::Result<Checked> {
    let exports = match open(plugin, plugins) {
        Ok(exports) => exports,
        Err(error) if Path::new(plugin).is_file() => {
            exit::eprint_line(&format!("sipf: {error:#}"));
            return Ok(Checked { error: Some(format!("{error:#}")), ..Checked::default() });
        }
        Err(error) => return Err(error),
    };
    let sandbox = crate::open::sandbox(0);
    let mut checked = Checked::default();
    for task in &exports.tasks {
        let findings = conformance::check_task(&**task, sandbox.as_deref());
        let latency = conformance::median_latency(&**task).ok();
        checked.add(&findings);
        checked.exports.push(report(&task.card().name, "task", &findings, latency, json)?);
    }
    for reward in &exports.rewards {
        let findings = conformance::check_reward(&**reward);
        checked.add(&findings);
        checked.exports.push(report(&reward.card().name, "reward", &findings, None, json)?);
    }
    if !json {
        print_line(&checked.in_words(plugin))?;
    }
    Ok(checked)
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

fn install(file: &Path, into: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    ensure!(
        !file.is_dir(),
        "{}: is a folder; name the plugin file in it, such as target/release/{}",
        file.display(),
        scaffold::library_file(&file.file_name().unwrap_or_default().to_string_lossy())
    );
    let into = match into {
        Some(into) => into.to_path_buf(),
        None => discover::data_home()
            .context("neither XDG_DATA_HOME nor HOME is set: say where with --into DIR")?,
    };
    let plugins = PluginFlags::default();
    let name = if is_path(&file.to_string_lossy()) { file.to_path_buf() } else { Path::new(".").join(file) };
    let checked = check(&name.to_string_lossy(), &plugins, json)?;
    let mut object = checked.object();
    if checked.passed() {
        let library = plugins.registry()?.open(&name)?;
        let folder = discover::install(&name, library.kind(), library.manifest(), &into)?;
        object["installed"] = json!(folder);
        if !json {
            print_line(&format!("installed in {}", folder.display()))?;
        }
    }
    if json {
        print_line(&object.to_string())?;
    }
    Ok(checked.status())
}
