//! Rows to train on, from JSONL or Parquet in TRL's shapes.

use std::path::Path;

use serde_json::Value;
use sipf_plugin::DataFormat;

use crate::dataset;
use crate::{Error, Result};

/// A row for SFT: `{prompt, completion}` or `{text}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftRow {
    /// What is given; empty for `{text}`.
    pub prompt: String,
    /// What is learned.
    pub completion: String,
    /// File and line.
    pub place: String,
}

/// The format that a file's name says; JSONL where it says nothing.
pub(crate) fn format_of(path: &Path) -> DataFormat {
    match path.extension().and_then(|end| end.to_str()) {
        Some("parquet") => DataFormat::Parquet,
        Some("json") => DataFormat::Json,
        _ => DataFormat::Jsonl,
    }
}

/// The text under a key of a row.
///
/// # Errors
/// Names file, line and key.
pub(crate) fn text<'a>(row: &'a Value, key: &str, path: &Path, index: u64) -> Result<&'a str> {
    row.get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| Error::row(path, index as usize + 1, format!("key {key:?} is missing or not text")))
}

impl SftRow {
    /// The rows of a file.
    ///
    /// # Errors
    /// Names file, line and key of the first bad row.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let mut rows = Vec::new();
        dataset::read_rows(path, format_of(path), &mut |index, row| {
            let place = format!("{}, line {}", path.display(), index + 1);
            let (prompt, completion) = match row.get("text").and_then(Value::as_str) {
                Some(text) => ("", text),
                None => (text(&row, "prompt", path, index)?, text(&row, "completion", path, index)?),
            };
            rows.push(Self { prompt: prompt.into(), completion: completion.into(), place });
            Ok(true)
        })?;
        Ok(rows)
    }
}
