//! One trainer for every loss: SFT, ORPO, DPO, RPO and reward models.
//!
//! A loss says what it is over rows ([`Objective`]); the trainer accumulates, clips, steps, logs and goes on where it
//! was stopped. What the rows mean is left to `align` and `reward`.

mod checkpoint;
mod logprob;
mod objective;
mod optimizer;
mod order;
mod run;
mod settings;

pub use logprob::token_logprobs;
pub use objective::{Metrics, Objective, PartialLoss};
pub use run::{TrainReport, evaluate, train};
pub use settings::{Schedule, TrainSettings};
