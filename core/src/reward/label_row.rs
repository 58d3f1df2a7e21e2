//! Labelled paths from files: TRL's stepwise supervision, and Math-Shepherd's tagged text.

use std::path::Path;

use serde_json::Value;
use sipf_plugin::Problem;

use crate::align::{BadRows, format_of, row_text};
use crate::{Error, Result, dataset};

/// A labelled path: `{prompt, completions, labels}` as TRL reads it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelRow {
    /// The problem's id, where the row has one.
    pub problem: String,
    /// What is asked.
    pub prompt: String,
    /// The bare question, where that is the prompt: a reward model asks it in its own words.
    pub question: Option<String>,
    /// The steps.
    pub steps: Vec<String>,
    /// A label for each: 0 wrong, 1 right, between them a share.
    pub labels: Vec<f32>,
    /// File and line.
    pub place: String,
}

/// Math-Shepherd's step tag.
const TAG: &str = "ки";
/// What its first step begins with.
const FIRST: &str = "Step 1:";

impl LabelRow {
    /// The rows of a file, each `{prompt, completions, labels}`, or Math-Shepherd's `{input, label}`.
    ///
    /// # Errors
    /// Names file, line and key of the first bad row.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        Self::sifted(path, &mut BadRows::stop())
    }

    /// As [`Self::read`], leaving bad rows to `bad`.
    ///
    /// # Errors
    /// As [`Self::read`], where `bad` stops at the first such row.
    pub fn sifted(path: &Path, bad: &mut BadRows) -> Result<Vec<Self>> {
        let mut rows = Vec::new();
        dataset::read_rows_with(path, format_of(path), &mut |line, row| {
            let made = row.and_then(|row| {
                let place = format!("{}, line {line}", path.display());
                match row.get("input").is_some() && row.get("completions").is_none() {
                    true => {
                        let (input, label) =
                            (row_text(&row, "input", path, line)?, row_text(&row, "label", path, line)?);
                        let tagged = math_shepherd(input, label).map_err(|why| Error::row(path, line, why));
                        tagged.map(|row| Self { place, ..row })
                    }
                    false => Self::of(&row, path, line, place),
                }
            });
            rows.extend(bad.sift(made)?);
            Ok(true)
        })?;
        Ok(rows)
    }

    fn of(row: &Value, path: &Path, line: usize, place: String) -> Result<Self> {
        let bad = |what: String| Error::row(path, line, what);
        let list = |key: &str| {
            row.get(key)
                .and_then(Value::as_array)
                .ok_or_else(|| bad(format!("key {key:?} is missing or no list")))
        };
        let step = |value: &Value| {
            value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| bad("\"completions\" holds something but text".into()))
        };
        let label = |value: &Value| {
            value
                .as_bool()
                .map(|label| f32::from(u8::from(label)))
                .or_else(|| value.as_f64().map(|label| label as f32))
                .filter(|label| (0.0..=1.0).contains(label))
                .ok_or_else(|| bad(format!("label {value} is neither true, false nor between 0 and 1")))
        };
        let steps: Vec<String> = list("completions")?.iter().map(step).collect::<Result<_>>()?;
        let labels: Vec<f32> = list("labels")?.iter().map(label).collect::<Result<_>>()?;
        if steps.len() != labels.len() {
            return Err(bad(format!("{} completions and {} labels", steps.len(), labels.len())));
        }
        Ok(Self {
            problem: row.get("problem").and_then(Value::as_str).unwrap_or_default().to_owned(),
            prompt: row_text(row, "prompt", path, line)?.to_owned(),
            question: row.get("question").and_then(Value::as_str).map(str::to_owned),
            steps,
            labels,
            place,
        })
    }

    /// A problem that asks what the row asks: its question, or else its prompt as it is.
    pub fn as_problem(&self) -> Problem {
        asking(&self.problem, &self.prompt, self.question.as_deref())
    }
}

/// A problem that stands for the one that a row of samples or labels was made of. Reward models lay it out as they would
/// the task's own: around the bare `question`, or behind the `prompt` as it is.
pub fn asking(id: &str, prompt: &str, question: Option<&str>) -> Problem {
    match question {
        Some(question) => Problem::new(id, question),
        None => Problem::new(id, prompt).extra(serde_json::json!({ "asked": prompt })),
    }
}

/// `input` is the question and its steps, each ended by a tag; `label` is the same text with `+` or `-` for each tag. A
/// dozen published rows have a tag within the question: it and its label are dropped, as TRL's conversion does.
fn math_shepherd(input: &str, label: &str) -> std::result::Result<LabelRow, String> {
    let mut parts: Vec<&str> = input.split(TAG).collect();
    // Behind the last tag there is nothing to label.
    parts.pop();
    let (mut row, mut rest) = (LabelRow::default(), label);
    for (number, part) in parts.iter().enumerate() {
        let behind =
            rest.strip_prefix(part).ok_or_else(|| format!("label and input differ at tag {}", number + 1))?;
        let mark = behind.chars().next();
        let right = match mark {
            Some('+') => 1.0,
            Some('-') => 0.0,
            _ => return Err(format!("tag {} has label {mark:?}, not + or -", number + 1)),
        };
        rest = &behind[1..];
        let step = match row.steps.is_empty() {
            true => match part.find(FIRST) {
                Some(at) => {
                    row.prompt.push_str(&part[..at]);
                    &part[at..]
                }
                None => {
                    row.prompt.push_str(part);
                    continue;
                }
            },
            false => part,
        };
        row.steps.push(step.trim().to_owned());
        row.labels.push(right);
    }
    row.prompt.truncate(row.prompt.trim_end().len());
    match row.steps.is_empty() {
        true => Err(format!("no {TAG:?} behind {FIRST:?}")),
        false => Ok(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tagged_text_is_taken_apart() {
        let row = math_shepherd(
            "Add 1 and 2. Step 1: 1 + 2 = 3 ки\nStep 2: The answer is: 3 ки",
            "Add 1 and 2. Step 1: 1 + 2 = 3 +\nStep 2: The answer is: 3 -",
        )
        .expect("a row");
        assert_eq!(row.prompt, "Add 1 and 2.");
        assert_eq!(row.steps, ["Step 1: 1 + 2 = 3", "Step 2: The answer is: 3"]);
        assert_eq!(row.labels, [1.0, 0.0]);
        let stray =
            math_shepherd("A ки question. Step 1: yes ки", "A + question. Step 1: yes -").expect("a row");
        assert_eq!((&*stray.prompt, &stray.labels[..]), ("A  question.", &[0.0][..]));
        assert!(math_shepherd("Q Step 1: a ки", "Q Step 1: b +").is_err_and(|why| why.contains("tag 1")));
        assert!(math_shepherd("Q Step 1: a ки", "Q Step 1: a ?").is_err());
        assert!(math_shepherd("no steps", "no steps").is_err());
    }
}
