//! The trait that a reward model implements: it describes, the host computes.

use crate::card::RewardCard;
use crate::default;
use crate::error::Result;
use crate::layout::Piece;
use crate::problem::Problem;

/// A step scorer, described rather than computed: the host owns the weights.
pub trait RewardModel: Send + Sync + 'static {
    /// Name, kind, checkpoints per domain, marker, read-out, offset, aggregation, training defaults.
    fn card(&self) -> RewardCard;

    /// What the model reads, with one marker where each step's score is read. Default: question, then step + marker.
    ///
    /// # Errors
    /// When the steps cannot be laid out.
    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        default::layout(problem, steps)
    }

    /// One reward for the path (Eq. 5). Default: what the card says.
    ///
    /// # Errors
    /// When the scores make no reward.
    fn aggregate(&self, scores: &[f32]) -> Result<f32> {
        default::aggregate(&self.card(), scores)
    }
}
