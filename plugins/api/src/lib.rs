//! What a sipf task or reward-model plugin is written against.
//!
//! A plugin exchanges text and small numbers with the host. It owns no tensors, reads no files and runs no
//! programs: a task that needs a program run returns it ([`Check::Run`]) and is asked to judge the outcome.

pub mod card;
pub mod check;
pub mod default;
pub mod error;
pub mod execute;
pub mod layout;
pub mod problem;
pub mod random;
pub mod reward;
pub mod signature;
pub mod task;
pub mod text;

pub use card::{Bases, Domain, Metric, RewardCard, RewardKind, TaskCard, Training};
pub use check::{Check, Counters, Language, Limits, Outcome, Program, RunVerdict, TestOutcome, Verdict};
pub use error::{Context, Error, Result};
pub use execute::Execute;
pub use layout::{Aggregate, Marker, Piece, Readout, Step};
pub use problem::{DataFile, DataFormat, Problem, Published, Row, Source, Split};
pub use reward::RewardModel;
pub use signature::Signature;
pub use task::{Measure, Role, Task};

/// Everything a plugin's one file needs.
pub mod prelude {
    pub use crate::{
        Aggregate, Check, Context, DataFile, DataFormat, Domain, Error, Marker, Measure, Metric, Outcome,
        Piece, Problem, Program, Published, Readout, Result, RewardCard, RewardModel, Role, Row, Signature,
        Source, Split, Step, Task, TaskCard, Training, Verdict,
    };
    pub use serde_json::{Value, json};
}
