//! Where problems come from: splits, rows of a data file, and the problems made of them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Split {
    /// What the policy learns from and samples on.
    Train,
    /// What settings are chosen on.
    Validation,
    /// What is reported.
    Test,
}

impl Split {
    /// The name used in ids, flags and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Split {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "train" => Ok(Self::Train),
            "validation" => Ok(Self::Validation),
            "test" => Ok(Self::Test),
            other => Err(Error::new(format!("unknown split {other:?}: train, validation or test"))),
        }
    }
}

/// Where a split's rows come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// Data files, read by the host one after the other.
    Files {
        /// The files, in order.
        files: Vec<DataFile>,
    },
    /// The task makes rows itself: the host calls [`crate::Task::generate`] with 0, 1, 2, ...
    Generated,
    /// The data set has no such split.
    #[default]
    Missing,
}

/// One data file of a split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataFile {
    /// The name that ids use; may be empty where a split has one file.
    pub name: String,
    /// Path below the data folder, for example `gsm8k/test.jsonl`.
    pub path: String,
    /// How its rows are written.
    pub format: DataFormat,
    /// Where it is published, if anywhere.
    pub published: Option<Published>,
}

/// How rows are written in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DataFormat {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// Comma-separated values without a header; columns are named `0`, `1`, ...
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// A file of a data set repository on the Hub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Published {
    /// `owner/name` of the data set.
    pub repository: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Path inside the repository.
    pub path: String,
    /// Its format there, which may differ from the local file's.
    pub format: DataFormat,
    /// SHA-256 of the published bytes in lower-case hex, where known.
    pub sha256: Option<String>,
}

impl Source {
    /// One JSONL file.
    pub fn jsonl(path: impl Into<String>) -> Self {
        Self::Files { files: vec![DataFile { path: path.into(), ..DataFile::default() }] }
    }

    /// Several files.
    pub fn files(files: impl IntoIterator<Item = DataFile>) -> Self {
        Self::Files { files: files.into_iter().collect() }
    }
}

impl DataFile {
    /// A file at this path below the data folder.
    pub fn new(path: impl Into<String>, format: DataFormat) -> Self {
        Self { path: path.into(), format, ..Self::default() }
    }

    /// The name that ids use for this file.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Where it is published.
    #[must_use]
    pub fn published(mut self, published: Published) -> Self {
        self.published = Some(published);
        self
    }
}

/// One row of a data file, or one generated row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// The file's [`DataFile::name`]; empty for generated rows.
    pub file: String,
    /// Row number in its file, from 0.
    pub index: u64,
    /// The row's keys.
    pub data: Value,
}

impl Row {
    /// A row with these keys.
    pub fn new(index: u64, data: Value) -> Self {
        Self { file: String::new(), index, data }
    }

    /// The rows of an embedded file, one JSON object a line, numbered from 0; for [`crate::Task::fixtures`].
    ///
    /// # Errors
    /// When a line is no JSON; the message names it.
    pub fn jsonl(text: &str) -> Result<Vec<Self>> {
        let lines = text.lines().filter(|line| !line.trim().is_empty()).zip(0..);
        lines
            .map(|(line, index)| match serde_json::from_str(line) {
                Ok(data) => Ok(Self::new(index, data)),
                Err(error) => Err(Error::new(format!("row {index}: {error}"))),
            })
            .collect()
    }

    /// The text under this key.
    ///
    /// # Errors
    /// When the key is missing or not text.
    pub fn text(&self, key: &str) -> Result<&str> {
        match self.data.get(key) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.error(format!("key {key:?} should be text, found {}", kind(other)))),
            None => Err(self.error(format!("key {key:?} is missing"))),
        }
    }

    /// The whole number under this key.
    ///
    /// # Errors
    /// When the key is missing or not a whole number.
    pub fn integer(&self, key: &str) -> Result<i64> {
        match self.data.get(key) {
            Some(value) => value.as_i64().ok_or_else(|| {
                self.error(format!("key {key:?} should be a whole number, found {}", kind(value)))
            }),
            None => Err(self.error(format!("key {key:?} is missing"))),
        }
    }

    /// The list of texts under this key.
    ///
    /// # Errors
    /// When the key is missing or not a list of texts.
    pub fn texts(&self, key: &str) -> Result<Vec<String>> {
        let value = self.data.get(key).ok_or_else(|| self.error(format!("key {key:?} is missing")))?;
        let list = value.as_array().ok_or_else(|| {
            self.error(format!("key {key:?} should be a list of texts, found {}", kind(value)))
        })?;
        list.iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                other => {
                    Err(self.error(format!("key {key:?} should hold texts only, found {}", kind(other))))
                }
            })
            .collect()
    }

    fn error(&self, what: String) -> Error {
        let place = if self.file.is_empty() { String::new() } else { format!("{} ", self.file) };
        Error::new(format!("{place}row {}: {what}", self.index))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// One question with what is needed to ask it and to judge an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Stable and unique, for example `gsm8k/test/0`; sorts naturally.
    pub id: String,
    /// What is asked, without any prompt around it.
    pub question: String,
    /// The right final answer in normal form, where there is one.
    pub answer: Option<String>,
    /// The reference completion, in the form that `verify` accepts.
    pub solution: Option<String>,
    /// What SFT learns from, where that differs from `solution` (noisy demonstrations).
    pub demonstration: Option<String>,
    /// How often a blind guess is right, 0 to 1 (0.5 for yes/no). Simulation labels only problems with a small one.
    pub chance: f32,
    /// The task's own data (tests, entry point, ...).
    pub extra: Value,
}

impl Problem {
    /// A problem with this id and question.
    pub fn new(id: impl Into<String>, question: impl Into<String>) -> Self {
        Self { id: id.into(), question: question.into(), ..Self::default() }
    }

    /// Sets the right final answer.
    #[must_use]
    pub fn answer(mut self, answer: impl Into<String>) -> Self {
        self.answer = Some(answer.into());
        self
    }

    /// Sets the reference completion.
    #[must_use]
    pub fn solution(mut self, solution: impl Into<String>) -> Self {
        self.solution = Some(solution.into());
        self
    }

    /// Sets what SFT learns from.
    #[must_use]
    pub fn demonstration(mut self, demonstration: impl Into<String>) -> Self {
        self.demonstration = Some(demonstration.into());
        self
    }

    /// Sets how often a blind guess is right.
    #[must_use]
    pub fn chance(mut self, chance: f32) -> Self {
        self.chance = chance;
        self
    }

    /// Sets the task's own data.
    #[must_use]
    pub fn extra(mut self, extra: Value) -> Self {
        self.extra = extra;
        self
    }

    /// What SFT learns from: the demonstration, or else the reference solution.
    pub fn demonstration_or_solution(&self) -> Option<&str> {
        self.demonstration.as_deref().or(self.solution.as_deref())
    }
}
