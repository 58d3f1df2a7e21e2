//! One trainer for every loss: SFT, ORPO, DPO, RPO and reward models.
//!
//! A loss says what it is over rows ([`Objective`]); the trainer accumulates, clips, steps, logs and goes on where it
//! was stopped. What the rows mean is left to `align` and `reward`.

mod best;
mod checkpoint;
mod fingerprint;
mod log;
mod logprob;
mod objective;
mod observed;
mod optimizer;
mod order;
mod run;
mod settings;
mod slopes;
mod tensorboard;
#[cfg(test)]
mod tests;

pub use fingerprint::Fingerprint;
pub use logprob::{TokenScores, token_logprobs, token_scores};
pub use objective::{Metrics, Objective, PartialLoss};
pub use observed::Observed;
pub use run::{TrainReport, evaluate, train};
pub use settings::{Schedule, TrainSettings};
pub use slopes::with_slopes;
