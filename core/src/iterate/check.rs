//! What can be known before a run starts: whether the reward model can read its base's tokens.

use std::path::Path;

use sipf_plugin::{RewardModel, Split, Task};

use super::POLICY;
use crate::config::RunConfig;
use crate::dataset::{self, DataOptions};
use crate::model::{ModelFolder, Tokenizer};
use crate::{Error, Result, reward};

/// Lays the first train problem's own steps out as the reward model would. A run that needs none, and a problem without
/// steps to show, hold.
///
/// # Errors
/// Names the reward model and the base that do not fit; or the data or the tokenizer cannot be read.
pub fn check(
    config: &RunConfig,
    task: &dyn Task,
    model: &dyn RewardModel,
    data: Option<&Path>,
) -> Result<()> {
    if !config.method.uses_reward() || config.iterations == 0 {
        return Ok(());
    }
    let options = DataOptions { data: data.map(Path::to_path_buf), limit: Some(1), skip_bad_rows: true };
    let problems = dataset::load(task, Split::Train, &options)?.problems;
    let Some(problem) = problems.first() else { return Ok(()) };
    let Some(solution) = problem.demonstration_or_solution() else { return Ok(()) };
    let steps: Vec<&str> =
        task.steps(problem, solution)?.iter().filter_map(|step| solution.get(step.start..step.end)).collect();
    let base = base(config);
    let tokenizer = Tokenizer::load(ModelFolder::open(base, config.seed)?.path())?;
    reward::fits(model, &tokenizer, problem, &steps).map_err(|error| {
        Error::unusable(format!(
            "reward model {} cannot be read off {base}: {error}; give another --reward-base, or another reward model \
             with --plugin",
            model.card().name
        ))
    })
}

/// The model whose tokens the reward model reads.
pub fn base(config: &RunConfig) -> &str {
    if config.reward_base == POLICY { &config.model } else { &config.reward_base }
}
