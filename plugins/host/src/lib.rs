//! Finds, loads and calls sipf plugins. Whatever the transport, callers get `Arc<dyn Task>` and `Arc<dyn RewardModel>`.
//!
//! - [`registry`]: names to tasks and reward models, built-in or installed;
//! - [`discover`]: where plugins lie, and their sidecars;
//! - [`foreign`]: the traits over any transport;
//! - [`probe`]: first contact with a native library, in a child process;
//! - [`scaffold`]: the files of `sipf plugin new`.

pub mod discover;
pub mod error;
pub mod foreign;
pub mod native;
pub mod open;
pub mod probe;
pub mod python;
pub mod registry;
pub mod scaffold;
pub mod transport;
pub mod wasm;

pub use error::{Error, Result};
pub use foreign::Library;
pub use registry::Registry;
