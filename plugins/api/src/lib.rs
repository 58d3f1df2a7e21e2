//! What a sipf task or reward-model plugin is written against.
//!
//! A plugin exchanges text and small numbers with the host. It owns no tensors, reads no files and runs no
//! programs: a task that needs a program run returns it ([`Check::Run`]) and is asked to judge the outcome.
//!
//! A whole plugin, built with `crate-type = ["cdylib"]`:
//!
//! ```
//! use sipf_plugin::prelude::*;
//!
//! /// Sums of two small numbers.
//! #[derive(Default)]
//! pub struct Sums;
//!
//! impl Task for Sums {
//!     fn card(&self) -> TaskCard {
//!         TaskCard::new("sums", Domain::Math).summary("sums of two small numbers").max_tokens(32)
//!     }
//!     fn source(&self, _: Split) -> Result<Source> {
//!         Ok(Source::Generated)
//!     }
//!     fn generate(&self, split: Split, index: u64) -> Result<Row> {
//!         let mut stream = Stream::new(random::key(split.name(), index));
//!         Ok(Row::new(index, json!({ "a": stream.below(10), "b": stream.below(10) })))
//!     }
//!     fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>> {
//!         let (a, b) = (row.integer("a")?, row.integer("b")?);
//!         Ok(vec![Problem::new(format!("sums/{split}/{}", row.index), format!("{a} + {b}?"))
//!             .answer((a + b).to_string())
//!             .solution(format!("{a} + {b} = {}\nThe answer is {}", a + b, a + b))])
//!     }
//!     fn prompt(&self, problem: &Problem, _: Role) -> Result<String> {
//!         Ok(format!("{}\n", problem.question))
//!     }
//!     fn answer(&self, completion: &str) -> Result<Option<String>> {
//!         Ok(text::after(completion, "The answer is").map(str::to_owned))
//!     }
//!     fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
//!         Ok(Check::rules([("answer", self.answer(completion)?)], problem.answer.as_deref()))
//!     }
//! }
//!
//! sipf_plugin::export_task!(Sums);
//!
//! let findings = sipf_plugin::conformance::check_task(&Sums, None);
//! assert!(sipf_plugin::conformance::all_hold(&findings), "{findings:?}");
//! ```

pub mod abi;
pub mod call;
pub mod card;
pub mod check;
pub mod conformance;
pub mod default;
pub mod dispatch;
pub mod error;
pub mod execute;
mod export;
pub mod layout;
pub mod manifest;
pub mod problem;
pub mod random;
pub mod reward;
pub mod signature;
pub mod task;
pub mod text;

pub use card::{Bases, Domain, Metric, RewardCard, RewardKind, TaskCard, Training};
pub use check::{Check, Counters, Language, Limits, Outcome, Program, RunVerdict, TestOutcome, Verdict};
pub use dispatch::Plugin;
pub use error::{Context, Error, Result};
pub use execute::Execute;
pub use layout::{Aggregate, Marker, Piece, Readout, Step};
pub use manifest::{API, Api, Manifest};
pub use problem::{DataFile, DataFormat, Problem, Published, Row, Source, Split};
pub use reward::RewardModel;
pub use signature::Signature;
pub use task::{Measure, Role, Task};

/// Everything a plugin's one file needs.
pub mod prelude {
    pub use crate::{
        Aggregate, Check, Context, DataFile, DataFormat, Domain, Error, Marker, Measure, Metric, Outcome,
        Piece, Problem, Program, Published, Readout, Result, RewardCard, RewardModel, Role, Row, Signature,
        Source, Split, Step, Task, TaskCard, Training, Verdict, random, random::Stream, text,
    };
    pub use serde_json::{Value, json};
}
