//! What happens to rows that cannot be used: the first ends everything, or all are passed over and counted.

use crate::{Error, Result};

/// The policy, and what it met so far.
#[derive(Debug, Default)]
pub struct BadRows {
    skip: bool,
    found: Vec<String>,
}

impl BadRows {
    /// The first bad row is an error.
    pub fn stop() -> Self {
        Self::default()
    }

    /// Bad rows are passed over and kept in [`Self::found`].
    pub fn skip() -> Self {
        Self { skip: true, found: Vec::new() }
    }

    /// A row that cannot be used.
    ///
    /// # Errors
    /// `why`, where bad rows stop everything.
    pub fn take(&mut self, why: Error) -> Result<()> {
        match self.skip {
            true => {
                self.found.push(why.to_string());
                Ok(())
            }
            false => Err(why),
        }
    }

    /// The value of a good row; a bad one is taken.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn sift<T>(&mut self, row: Result<T>) -> Result<Option<T>> {
        row.map(Some).or_else(|why| self.take(why).map(|()| None))
    }

    /// Place and reason of every row that was passed over.
    pub fn found(&self) -> &[String] {
        &self.found
    }
}
