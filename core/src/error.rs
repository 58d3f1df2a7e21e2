//! The one error of this crate. Messages name the file, row, tensor or setting, and carry the values.
//!
//! A message holds its cause, and then the cause is no `source()`: a chain of causes says everything once. The exception is
//! [`Error::EndedEarly`], whose cause is its source and stands in no message.

use std::path::{Path, PathBuf};

/// What can go wrong in the loop.
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
    #[error(transparent)]
    Plugin(#[from] sipf_plugin::Error),
    /// A tensor operation failed: shapes and types are in the message.
    #[error("tensor operation: {0}")]
    Tensor(candle_core::Error),
    /// JSON could not be read or written.
    #[error("JSON: {0}")]
    Json(serde_json::Error),
    /// A setting has a value that makes no sense.
    #[error("{key} is {value}; it must be {range}")]
    Setting {
        /// Its key, with the sections it stands in (`sample.top-p`).
        key: String,
        /// What it is.
        value: String,
        /// What it may be.
        range: String,
    },
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
    #[error("interrupted")]
    Interrupted,
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An unusable setting, model or data set.
    pub fn unusable(message: impl Into<String>) -> Self {
        Self::Unusable(message.into())
    }

    /// Whether a setting's value is one that it may have.
    ///
    /// # Errors
    /// [`Error::Setting`] where it does not hold.
    pub fn unless(holds: bool, key: &str, value: impl std::fmt::Display, range: &str) -> Result<()> {
        match holds {
            true => Ok(()),
            false => {
                Err(Self::Setting { key: key.to_owned(), value: value.to_string(), range: range.to_owned() })
            }
        }
    }

    /// The same error about a setting of a section.
    #[must_use]
    pub fn within(self, section: &str) -> Self {
        match self {
            Self::Setting { key, value, range } => {
                Self::Setting { key: format!("{section}.{key}"), value, range }
            }
            other => other,
        }
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

/// What is wrong with a line of JSON, whose message names the line itself: the reader counts from the line's own start.
pub fn of_json_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line 1 column ") {
        Some((what, column)) if error.line() == 1 => format!("{what} at column {column}"),
        _ => text,
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
        self.map_err(|cause| Error::Io { path: path.as_ref().to_path_buf(), cause })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_chain_of_causes_says_everything_once() {
        let full = || std::io::Error::from_raw_os_error(28);
        let io = || Err::<(), _>(full()).at("out/model").expect_err("an error");
        let broken = || serde_json::from_str::<u8>("[").expect_err("no number");
        let early = Error::EndedEarly { after: "step 3".into(), kept: "nothing".into(), source: io().into() };
        for (error, cause) in [
            (io(), full().to_string()),
            (early, full().to_string()),
            (sipf_plugin::Error::new("no answer").into(), "no answer".into()),
            (candle_core::Error::Msg("odd shapes".into()).into(), "odd shapes".into()),
            (broken().into(), broken().to_string()),
        ] {
            let (mut chain, mut source) = (error.to_string(), error.source());
            while let Some(next) = source {
                (chain, source) = (format!("{chain}: {next}"), next.source());
            }
            assert_eq!(chain.matches(&cause).count(), 1, "{chain}");
        }
    }
}
