//! `sipf reward`: train a reward model on step labels, score paths with it, measure how good its scores are.

mod eval;
mod paths;
mod score;
mod train;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use sipf_core::model::{Checkpoint, LoadOptions, ModelFolder};
use sipf_core::reward::RewardNet;
use sipf_plugin::RewardModel;

use crate::given::{Given, at_least_one};
use crate::open::PluginFlags;
use crate::source::tell_unread;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "parsed once")]
enum Action {
    /// Train on labelled paths: {prompt, completions, labels} rows
    Train(train::Args),
    /// Write the step scores and the reward of every path
    Score(score::Args),
    /// Compare scores with what is known of the steps
    Eval(eval::Args),
}

pub(crate) fn run(args: &Args, given: &Given) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Train(args) => train::run(args, given),
        Action::Score(args) => score::run(args),
        Action::Eval(args) => eval::run(args),
    }
}

/// The reward model used where none is named.
const DEFAULT: &str = "prm-trl";

/// A trained reward model, and the descriptor that lays paths out for it.
#[derive(Debug, clap::Args)]
struct Trained {
    /// Folder of the trained reward model, or its Hub id
    #[arg(long, value_name = "M")]
    model: String,
    #[command(flatten)]
    plugins: PluginFlags,
    /// Threads
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    threads: Option<usize>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
}

impl Trained {
    fn open(&self) -> anyhow::Result<(RewardNet, Arc<dyn RewardModel>)> {
        sipf_core::machine::use_threads(self.threads)?;
        open_trained(&self.model, &self.device, &self.plugins)
    }
}

/// A trained reward model by folder or Hub id, ready to score, and its descriptor.
pub(super) fn open_trained(
    model: &str,
    device: &str,
    plugins: &PluginFlags,
) -> anyhow::Result<(RewardNet, Arc<dyn RewardModel>)> {
    let (device, _) = sipf_core::machine::device(device)?;
    let options = match device.is_cpu() {
        true => LoadOptions::default(),
        false => {
            LoadOptions { device, dtype: sipf_core::machine::half_precision(), ..LoadOptions::default() }
        }
    };
    let folder = ModelFolder::open(model, 0)?;
    // A model that says how it is read needs no --plugin.
    let named = RewardNet::kept_name(folder.path())?;
    let reward = plugins.reward(named.as_deref().unwrap_or(DEFAULT))?;
    tell_unread(&Checkpoint::open_headless(folder.path())?);
    let net = RewardNet::load(folder.path(), &reward.card(), &options)?;
    Ok((net.frozen()?, reward))
}

/// Rows from several files, at most `limit`.
fn read_all<T>(
    files: &[PathBuf],
    limit: Option<usize>,
    read: impl Fn(&Path) -> sipf_core::Result<Vec<T>>,
) -> anyhow::Result<Vec<T>> {
    let mut rows = Vec::new();
    for file in files {
        rows.extend(read(file)?);
    }
    rows.truncate(limit.unwrap_or(usize::MAX));
    anyhow::ensure!(!rows.is_empty(), "no rows: say --data FILE (several are read one after the other)");
    Ok(rows)
}
