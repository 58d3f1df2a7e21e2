//! The one error of this crate. Messages name the file, row, tensor or setting, and carry the values.

use std::path::{Path, PathBuf};

/// What can go wrong in the loop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        message: String,
    },
    /// A row of a data file is bad.
    #[error("{}, line {line}: {message}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line or row number, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A task, reward model or sandbox said no.
    #[error("{0}")]
    Plugin(#[from] sipf_plugin::Error),
    /// A tensor operation failed: shapes and types are in the message.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
    /// JSON could not be read or written.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A setting, model or data set is unusable.
    #[error("{0}")]
    Unusable(String),
    /// Work that had begun could not go on.
    #[error("{after}: ended early; {kept}")]
    EndedEarly {
        /// What was finished.
        after: String,
        /// What is left of it, and what to do.
        kept: String,
        /// Why.
        source: Box<Error>,
    },
    /// The user asked to stop; what was finished is kept.
    #[error("interrupted; give the same command again to go on")]
    Interrupted,
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An unusable setting, model or data set.
    pub fn unusable(message: impl Into<String>) -> Self {
        Self::Unusable(message.into())
    }

    /// A file that holds something else than it should.
    pub fn file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::File { path: path.into(), message: message.into() }
    }

    /// Whether only the row at hand is lost: a plugin failed on it and may do better on the next.
    pub fn is_of_one_row(&self) -> bool {
        matches!(self, Self::Plugin(error) if !error.is_fatal())
    }

    /// A bad row; `line` counts from 1.
    pub fn row(path: impl Into<PathBuf>, line: usize, message: impl Into<String>) -> Self {
        Self::Row { path: path.into(), line, message: message.into() }
    }
}

/// Parts what went wrong with one row, as its message, from what ends the stage.
///
/// # Errors
/// What no other row would fare better with.
pub fn per_row<T>(result: Result<T>) -> Result<std::result::Result<T, String>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.is_of_one_row() => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Names the file of an input/output error.
pub trait AtPath<T> {
    /// The same result, its error naming `path`.
    ///
    /// # Errors
    /// The original error.
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.as_ref().to_path_buf(), source })
    }
}
