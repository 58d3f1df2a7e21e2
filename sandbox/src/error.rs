//! Why the sandbox could not be started: never a statement about a program.

use std::path::PathBuf;

/// A defect of the installation or of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The interpreter that is part of this binary is damaged.
    #[error("the bundled Python component is damaged: {0}")]
    Artifact(String),
    /// The engine refused its configuration or the component.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// The folder for compiled code cannot be trusted.
    #[error("{path}: {why}")]
    Cache {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// A Python task file is not a task.
    #[error("{0}")]
    Task(String),
    /// A worker thread could not be started.
    #[error("no thread for the sandbox: {0}")]
    Thread(std::io::Error),
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Thread(error)
    }
}

impl From<wasmtime::Error> for Error {
    fn from(error: wasmtime::Error) -> Self {
        Self::Engine(format!("{error:#}"))
    }
}

/// What this crate's fallible functions return.
pub type Result<T> = std::result::Result<T, Error>;
