//! What can go wrong between host and plugin. Every message names the plugin, and holds its cause.

use std::path::PathBuf;

/// A plugin that cannot be found, loaded or understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The library is not usable.
    #[error("plugin {}: {message}", path.display())]
    Refused {
        /// The plugin's file.
        path: PathBuf,
        /// Why, and what to do.
        message: String,
    },
    /// No such task or reward model.
    #[error("{0}")]
    Unknown(String),
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A library that is not usable.
    pub fn refused(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Refused { path: path.into(), message: message.into() }
    }

    /// An input/output error at this path.
    pub fn io(path: impl Into<PathBuf>, cause: std::io::Error) -> Self {
        Self::Io { path: path.into(), cause }
    }
}
