//! The only list of linked tasks and reward models.

use std::sync::Arc;

use sipf_plugin::{RewardModel, Task};

/// Every task that is linked into this binary.
pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    sipf_tasks::all()
}

/// Every reward model that is linked into this binary.
pub(crate) fn rewards() -> Vec<Arc<dyn RewardModel>> {
    sipf_reward_models::all()
}
