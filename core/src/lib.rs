//! The SIPF loop (arXiv 2412.08393): sample, simulate, reward, align, evaluate, again and again.
//!
//! The core sees tasks, reward models and the sandbox only through the traits of [`sipf_plugin`].

pub mod align;
pub mod config;
pub mod dataset;
pub mod error;
pub mod evaluate;
pub mod generate;
pub mod hub;
pub mod iterate;
pub mod machine;
pub mod model;
pub mod progress;
pub mod record;
pub mod report;
pub mod reward;
pub mod run_dir;
pub mod sample;
pub mod simulate;
pub mod stream;
pub mod text;
#[cfg(test)]
mod toy;
pub mod train;
pub mod verify;
pub mod work;

pub use error::{AtPath, Error, Result};
