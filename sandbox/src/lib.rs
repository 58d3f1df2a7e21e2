//! Runs what nobody trusts inside wasmtime: model-written Python, Python task files, and WASM plugins.
//!
//! A *program* runs in a fresh interpreter that never sees a test. A *judge*, another interpreter, runs the tests and
//! reaches the program's functions only by asking through [`Execute`](sipf_plugin::Execute)'s host; only what the
//! judge says counts. Fuel decides what is too slow, so a verdict is the same on every machine.

mod artifact;
mod cache;
mod clock;
mod cputime;
mod engine;
mod error;
pub mod guest;
mod instance;
mod lazy;
pub mod limits;
mod outcome;
mod output;
mod pool;
mod profile;
mod python_task;
mod sandbox;
mod verdict;

pub use artifact::{DESCRIPTION, PACKED_SHA256, SHA256, SOURCES_SHA256, packed_sha256, unpack};
pub use cache::{Found, Start, folder};
pub use engine::slots;
pub use error::{Error, Result};
pub use guest::{GuestError, GuestModule};
pub use lazy::LazySandbox;
pub use limits::{MODULE_FUEL, TASK_FUEL};
pub use profile::Phases;
pub use python_task::PythonTask;
pub use sandbox::{Sandbox, SandboxOptions};
pub use verdict::JUDGE_VERDICTS;
