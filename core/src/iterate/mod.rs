//! Algorithm 1: sample, simulate and reward once, then score, pair, align, evaluate and sample again, T times.
//!
//! [`run`] is the order of the stages; what each takes and leaves is in `stages`. Every stage is skipped while its
//! settings and inputs stand ([`crate::run_dir`]), goes on from its journal after an interruption, and leaves the files
//! that docs/run-folder.md names.

mod check;
mod data;
mod likelihood;
mod models;
mod plan;
mod stages;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde_json::{Map, Value};
use sipf_plugin::{Execute, RewardModel, Task};

pub use check::{base as reward_base, check};
pub use models::Place;
pub use plan::{PlannedStage, Weights, WorkPlan, plan};

use crate::config::RunConfig;
use crate::report;
use crate::run_dir::RunDir;
use crate::{AtPath, Result};
use stages::Stages;

/// The run's own supervised model, as simulator or reward base.
pub const POLICY: &str = "policy";
/// The bundled policy, which knows nothing before it is trained.
pub const TINY: &str = "tiny";

/// What a run is made of beside its settings.
pub struct Parts {
    /// The task.
    pub task: Arc<dyn Task>,
    /// Tasks that are only evaluated.
    pub transfer: Vec<Arc<dyn Task>>,
    /// The reward model's descriptor.
    pub reward: Arc<dyn RewardModel>,
    /// Runs programs.
    pub execute: Option<Arc<dyn Execute>>,
    /// Hash of the plugins: results change with them.
    pub plugin_hash: String,
    /// Where data sets lie; `None`: the published files.
    pub data: Option<PathBuf>,
    /// Where models run.
    pub place: Place,
    /// Another run, whose finished stages are taken where they are the same.
    pub reuse: Option<PathBuf>,
}

/// The headline of one evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Headline {
    /// Share of greedy answers that are right.
    pub accuracy: Option<f64>,
    /// Share of sampled answers that are right.
    pub sampled_accuracy: Option<f64>,
    /// Problems asked.
    pub problems: u64,
    /// The task's own measures.
    pub measures: Map<String, Value>,
}

/// What came out of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// The supervised model.
    pub baseline: Headline,
    /// The control, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Headline>,
    /// Each iteration's model.
    pub iterations: Vec<Headline>,
    /// Iterations that had nothing to learn from and kept the weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept_weights: Vec<u64>,
    /// Stages that had nothing to do, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, String>,
}

/// Runs Algorithm 1 in a run folder, as far as it is not done.
///
/// # Errors
/// [`crate::Error::Interrupted`] once `stop` is set: what is finished is kept and the same call goes on from there;
/// otherwise what the failing stage says.
pub fn run(run: &mut RunDir, config: &RunConfig, parts: &Parts, stop: &AtomicBool) -> Result<Outcome> {
    run.write_settings(&config.to_toml()?)?;
    let mut stages = Stages::open(run, config, parts, stop)?;
    let mut outcome = Outcome::default();

    // M0 <- SFT(M, D)
    let supervised = stages.sft()?;
    let mut policy = supervised.clone();
    if config.iterations > 0 {
        // S <- Sample(M0); V <- a reward model on the step labels of a subset (Eq. 1-4)
        stages.sample(0, &supervised)?;
        if config.method.uses_reward() {
            stages.simulate(&supervised)?;
            stages.reward(&supervised)?;
        }
    }
    // After the reward model, which ranks the samples of every evaluation (best of n, votes).
    outcome.baseline = stages.evaluate("iter-0", &supervised)?;
    for iteration in 1..=config.iterations as u64 {
        // D_pref <- pairs of S by V (Eq. 5-6); M_k <- ORPO (Eq. 7-8)
        if config.method.uses_reward() {
            stages.score(iteration, &supervised)?;
        }
        stages.pairs(iteration)?;
        match stages.align(iteration, &supervised, &policy)? {
            Some(aligned) => policy = aligned,
            None => outcome.kept_weights.push(iteration),
        }
        if iteration == 1 && config.control {
            let control = stages.control(&supervised)?;
            outcome.control = match control {
                Some(control) => Some(stages.evaluate("control", &control)?),
                None => None,
            };
        }
        outcome.iterations.push(stages.evaluate(&format!("iter-{iteration}"), &policy)?);
        // S <- S + Sample(M_k)
        if iteration < config.iterations as u64 {
            stages.sample(iteration, &policy)?;
        }
    }
    outcome.skipped = run.skipped().clone();
    // The report reads what was skipped off the manifest.
    run.close()?;
    let folder = run.folder().to_path_buf();
    report::write(&folder, &folder.join("report.html"), &report::Options::default())?;
    Ok(outcome)
}

/// Removes a folder and what is in it, where it is there.
fn clear(folder: &std::path::Path) -> Result<()> {
    match folder.exists() {
        true => std::fs::remove_dir_all(folder).at(folder),
        false => Ok(()),
    }
}
