//! Opens tasks and reward models by name or file, for every command that takes `--task` or `--plugin`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use sipf_core::dataset;
use sipf_plugin::{Execute, RewardModel, Split, Task};
use sipf_plugin_host::{Registry, discover, probe::Prober, registry::is_path};
use sipf_sandbox::{LazySandbox, SandboxOptions};

use crate::builtin;

/// Where plugins are looked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PluginFlags {
    /// A plugin, by name or file: its tasks and reward models can be named (may stand several times)
    #[arg(long = "plugin", value_name = "NAME|FILE")]
    pub(crate) plugins: Vec<String>,
    /// A folder of installed plugins, searched first (may stand several times)
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_dir: Vec<PathBuf>,
}

impl PluginFlags {
    /// Everything that can be named.
    pub(crate) fn registry(&self) -> anyhow::Result<Registry> {
        let folders = discover::folders(&self.plugin_dir);
        let mut registry =
            Registry::new(builtin::tasks(), builtin::rewards(), folders, Prober::this_program()?);
        for file in self.plugins.iter().filter(|plugin| is_path(plugin)) {
            registry.open(file.as_ref()).context("--plugin")?;
            registry.add_file(file);
        }
        Ok(registry)
    }

    /// The task of this name or file.
    pub(crate) fn task(&self, name: &str) -> anyhow::Result<Arc<dyn Task>> {
        Ok(self.registry()?.task(name)?)
    }

    /// The reward model that `--plugin` names, or a file of `--plugin` exports; else `default`.
    pub(crate) fn reward(&self, default: &str) -> anyhow::Result<Arc<dyn RewardModel>> {
        let registry = self.registry()?;
        for plugin in &self.plugins {
            match is_path(plugin) {
                false => return Ok(registry.reward(plugin)?),
                true => {
                    let library = registry.open(plugin.as_ref())?;
                    let first = library.manifest().rewards.first().map(|card| card.name.clone());
                    if let Some(reward) = first.and_then(|name| library.reward(&name)) {
                        return Ok(reward);
                    }
                }
            }
        }
        Ok(registry.reward(default)?)
    }
}

/// The sandbox that runs so many programs at once; it starts when the first program comes.
pub(crate) fn sandbox(threads: usize) -> Option<Arc<dyn Execute>> {
    Some(Arc::new(LazySandbox::new(SandboxOptions { threads, ..SandboxOptions::default() })))
}

/// What `--split` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Splits {
    /// One of them.
    One(Split),
    /// All that the task has.
    All,
}

impl std::str::FromStr for Splits {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "all" => Ok(Self::All),
            _ => name
                .parse()
                .map(Self::One)
                .map_err(|_| format!("{name:?} is none of train, validation, test and all")),
        }
    }
}

impl Splits {
    /// The splits of this task that are meant.
    pub(crate) fn of(self, task: &dyn Task) -> Vec<Split> {
        match self {
            Self::One(split) => vec![split],
            Self::All => dataset::splits(task),
        }
    }
}
