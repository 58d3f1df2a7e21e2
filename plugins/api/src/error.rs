//! The error that plugin authors return: a message with context, nothing more.
//!
//! It crosses the plugin boundary as text, so it carries no type to match on.

use std::fmt;

/// What went wrong, as one line of text. Contexts are put in front, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
    fatal: bool,
}

/// The result of every call a plugin answers.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), fatal: false }
    }

    /// An error after which the plugin is of no use any more: the host stops instead of dropping a row.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), fatal: true }
    }

    /// Whether every further call will fail too. Does not cross the plugin boundary: only hosts make such errors.
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// The same error with `what: ` in front.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), fatal: self.fatal }
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

macro_rules! from_display {
    ($($kind:ty),*) => { $(impl From<$kind> for Error {
        fn from(error: $kind) -> Self { Self::new(error.to_string()) }
    })* };
}
from_display!(serde_json::Error, std::num::ParseIntError, std::num::ParseFloatError, std::str::Utf8Error);

/// Adds a context to any displayable error, and turns `None` into an error.
pub trait Context<T> {
    /// Puts `what: ` in front of the error.
    ///
    /// # Errors
    /// The original error, with its context.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(format!("{what}: {error}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Error::new(what.to_string()))
    }
}
