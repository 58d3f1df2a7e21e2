//! The wire: one request, as JSON. `docs/plugin-abi.md` is the normative text.
//!
//! ```json
//! {"plugin":"sums","call":"verify","problem":{"id":"sums/0"},"completion":"The answer is 18"}
//! ```

use serde::{Deserialize, Serialize};

use crate::check::{Outcome, Verdict};
use crate::problem::{Problem, Row, Split};
use crate::task::Role;

/// A request: which export, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The export's name; ignored by `manifest`.
    #[serde(default)]
    pub plugin: String,
    /// What is asked.
    #[serde(flatten)]
    pub call: Call,
}

/// What can be asked. Calls are only ever added; a plugin answers `Unknown` to one it does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "one variant a trait method, with its arguments: see `Task` and `RewardModel`"
)]
pub enum Call {
    /// What the library exports.
    Manifest,
    Source {
        split: Split,
    },
    Generate {
        split: Split,
        index: u64,
    },
    Problems {
        row: Row,
        split: Split,
    },
    Prompt {
        problem: Problem,
        role: Role,
    },
    Verify {
        problem: Problem,
        completion: String,
    },
    Judge {
        problem: Problem,
        outcome: Outcome,
    },
    Clean {
        problem: Problem,
        raw: String,
    },
    Steps {
        problem: Problem,
        completion: String,
    },
    Answer {
        completion: String,
    },
    Signature {
        problem: Problem,
        completion: String,
    },
    Shots,
    Measure {
        problem: Problem,
        completion: String,
        verdict: Verdict,
    },
    StepTruth {
        problem: Problem,
        completion: String,
    },
    Fixtures,
    Layout {
        problem: Problem,
        steps: Vec<String>,
    },
    Aggregate {
        scores: Vec<f32>,
    },
}

impl Call {
    /// Every call's name on the wire.
    pub const NAMES: [&'static str; 17] = [
        "manifest",
        "source",
        "generate",
        "problems",
        "prompt",
        "verify",
        "judge",
        "clean",
        "steps",
        "answer",
        "signature",
        "shots",
        "measure",
        "step_truth",
        "fixtures",
        "layout",
        "aggregate",
    ];
}

/// How a call ended; the number is what `sipf_call` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// The reply is a JSON value.
    Ok = 0,
    /// The reply is an error text: this sample is dropped and counted, the run goes on.
    Failed = 1,
    /// The reply is a panic's text and place.
    Panicked = 2,
    /// The reply is the name of a call or export that the plugin does not know: the host uses its default.
    Unknown = 3,
    /// The reply says why the request could not be read: the host or the schema is at fault.
    Malformed = 4,
}

impl Status {
    /// The status of this number; `None` is a violation of the ABI.
    pub fn of(number: i32) -> Option<Self> {
        [Self::Ok, Self::Failed, Self::Panicked, Self::Unknown, Self::Malformed]
            .into_iter()
            .find(|status| *status as i32 == number)
    }
}
