//! What makes two completions "the same path". The task names it, the host compares.

use serde::{Deserialize, Serialize};

/// The identity of a completion for deduplication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "signature", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Signature {
    /// Equal text is the same path.
    Exact {
        /// The text compared.
        text: String,
    },
    /// Equal keys are the same path; of two, the text farther from the others stays.
    Key {
        /// What is compared, for example the equations.
        key: String,
        /// The text whose edit distance breaks the tie.
        tie_break: String,
        /// Why the path should be dropped where the equation filter is on, for example a false equation.
        flaw: Option<String>,
    },
    /// The same path when `distance(text, kept) < bound + |length difference| / 2`.
    Near {
        /// The text compared, for example without white space.
        text: String,
        /// The bound, in edits.
        bound: f32,
    },
    /// Not a path at all.
    Drop {
        /// Why.
        why: String,
    },
}

impl Signature {
    /// Equal text is the same path.
    pub fn exact(text: impl Into<String>) -> Self {
        Self::Exact { text: text.into() }
    }

    /// Equal keys are the same path.
    pub fn key(key: impl Into<String>, tie_break: impl Into<String>) -> Self {
        Self::Key { key: key.into(), tie_break: tie_break.into(), flaw: None }
    }

    /// Marks a keyed path as flawed, for the host's equation filter.
    #[must_use]
    pub fn flawed(mut self, why: Option<String>) -> Self {
        if let Self::Key { flaw, .. } = &mut self {
            *flaw = why;
        }
        self
    }

    /// Close texts are the same path.
    pub fn near(text: impl Into<String>, bound: f32) -> Self {
        Self::Near { text: text.into(), bound }
    }

    /// Not a path at all.
    pub fn drop(why: impl Into<String>) -> Self {
        Self::Drop { why: why.into() }
    }

    /// The edit distance between two texts, in Unicode scalar values (Levenshtein).
    pub fn distance(a: &str, b: &str) -> usize {
        let b: Vec<char> = b.chars().collect();
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let substitute = diagonal + usize::from(x != *y);
                diagonal = row[j + 1];
                row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[b.len()]
    }
}
