//! What flows between stages: samples, step labels, scores, pairs; one JSON object a line, unknown keys kept.
//!
//! `prompt`, `completion` and `problem` are enough to judge a row or to train on it without the rest of the run.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sipf_plugin::{RunVerdict, Step};

use crate::error::{AtPath, Error, Result, of_json_line};
use crate::model::save::write_bytes;
use crate::text;

/// A reasoning path that the policy wrote: a line of `samples.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// `PROBLEM#ITERATION.INDEX`.
    pub id: String,
    /// The problem's id.
    pub problem: String,
    /// The iteration that drew it, 0 for the supervised model.
    #[serde(default)]
    pub iteration: u64,
    /// Which attempt of that iteration.
    #[serde(default)]
    pub index: u64,
    /// What the policy read.
    pub prompt: String,
    /// The bare question, where that is what a reward model's layout begins with: the task keeps no prompt of its own
    /// (`extra.asked`) with the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// What it wrote, cleaned by the task.
    pub completion: String,
    /// Right by the rule that counts.
    pub passed: bool,
    /// What each answer rule says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_rule: BTreeMap<String, bool>,
    /// The final answer, in normal form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The sandbox's class, where a program ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<RunVerdict>,
    /// One line on why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its steps, as places in the completion.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// New tokens.
    #[serde(default)]
    pub tokens: u64,
    /// Whether later stages use it.
    #[serde(default)]
    pub kept: bool,
    /// Why not: `duplicate of ID`, `quota`, `no verdict: …`, `failed: …` (a plugin's message), or the flaw that the
    /// equation filter found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_because: Option<String>,
    /// A false equation or the like that the task's signature names; the equation filter acts on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaw: Option<String>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Sample {
    /// The text of each step.
    ///
    /// # Errors
    /// When a step lies outside the completion.
    pub fn step_texts(&self) -> Result<Vec<&str>> {
        self.steps
            .iter()
            .map(|step| {
                self.completion.get(step.start..step.end).ok_or_else(|| {
                    Error::unusable(format!(
                        "{}: step {}..{} lies outside the completion of {} bytes",
                        self.id,
                        step.start,
                        step.end,
                        self.completion.len()
                    ))
                })
            })
            .collect()
    }
}

/// The rollouts of one step, and the label they gave it (Eq. 2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelledStep {
    /// First byte in the completion.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Steps of one chunk share their rollouts.
    pub chunk: u32,
    /// Rollouts that count: all up to the one that decided the label.
    pub tried: u32,
    /// Of these, the ones that ended right.
    pub right: u32,
    /// 1 when more than the threshold were right, else 0; with `--soft-labels` the share.
    pub label: f32,
    /// Lower end of the 95 % posterior interval of the success rate (uniform prior).
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A path with labelled steps: a line of `labels.jsonl`, which TRL reads as stepwise supervision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepLabels {
    /// The sample's id, or `PROBLEM#gold`.
    pub sample: String,
    /// The problem's id.
    pub problem: String,
    /// What the reward model reads before the steps: the prompt that the task keeps with the problem, or else the bare
    /// question.
    pub prompt: String,
    /// The bare question, where it is the prompt: a reward model's layout then begins with it in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The text of each step.
    pub completions: Vec<String>,
    /// The label of each step.
    pub labels: Vec<Label>,
    /// Who continued the steps; `gold` for reference solutions.
    #[serde(default)]
    pub simulator: String,
    /// Rollouts per step at most.
    #[serde(default)]
    pub k: u32,
    /// Counts behind the labels.
    #[serde(default)]
    pub steps: Vec<LabelledStep>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A hard label (`true`, `false`) or a soft one (a share).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    /// Right or wrong.
    Hard(bool),
    /// Share of right rollouts.
    Soft(f32),
}

impl Label {
    /// As a number from 0 to 1.
    pub fn value(self) -> f32 {
        match self {
            Self::Hard(right) => f32::from(u8::from(right)),
            Self::Soft(share) => share,
        }
    }
}

impl Serialize for Label {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Hard(right) => to.serialize_bool(*right),
            Self::Soft(share) => to.serialize_f32(*share),
        }
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Bool(right) => Ok(Self::Hard(right)),
            Value::Number(share) => Ok(Self::Soft(share.as_f64().unwrap_or(0.0) as f32)),
            other => {
                Err(serde::de::Error::custom(format!("a label is true, false or a number, not {other}")))
            }
        }
    }
}

/// Step scores and the path's reward (Eq. 5): a line of `scores.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoredPath {
    /// The sample's id.
    pub sample: String,
    /// One score a step, 0 to 1.
    pub scores: Vec<f32>,
    /// The path's reward.
    pub reward: f32,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A preference (Eq. 6): a line of `pairs.jsonl`, which TRL reads as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// What the policy reads.
    pub prompt: String,
    /// The better completion.
    pub chosen: String,
    /// The worse one.
    pub rejected: String,
    /// The problem's id.
    #[serde(default)]
    pub problem: String,
    /// Whose completion is chosen.
    #[serde(default)]
    pub chosen_sample: String,
    /// Whose is rejected.
    #[serde(default)]
    pub rejected_sample: String,
    /// Its reward.
    #[serde(default)]
    pub chosen_reward: f32,
    /// Its reward.
    #[serde(default)]
    pub rejected_reward: f32,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Serialises a setting as people write it: 0.3, not 0.30000001192092896.
///
/// # Errors
/// What the format says.
pub(crate) fn as_written<S: serde::Serializer>(value: &f32, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_f64(value.to_string().parse().unwrap_or_else(|_| f64::from(*value)))
}

/// Reads a JSONL file.
///
/// # Errors
/// Names file and line of the first row that is no such record, and the key at fault.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    for (number, line) in (1..).zip(text::open(path)?.split(b'\n')) {
        let line = line.at(path)?;
        if !line.trim_ascii().is_empty() {
            let row = serde_json::from_slice(&line)
                .map_err(|error| Error::row(path, number, of_json_line(&error)))?;
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Writes a JSONL file, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write<'a, T: Serialize + 'a>(path: &Path, rows: impl IntoIterator<Item = &'a T>) -> Result<()> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row)?;
        bytes.push(b'\n');
    }
    write_bytes(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_what_they_do_not_know_and_come_back_as_they_were() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pairs.jsonl");
        let line = r#"{"prompt":"q","chosen":"a","rejected":"b","problem":"t/0","chosen_sample":"","rejected_sample":"","chosen_reward":0.5,"rejected_reward":0.0,"note":[1]}"#;
        std::fs::write(&path, format!("{line}\n\n")).expect("written");
        let rows: Vec<Pair> = read(&path).expect("rows");
        write(&path, &rows).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), format!("{line}\n"));
    }

    #[test]
    fn a_bad_row_is_named_by_file_line_and_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pairs.jsonl");
        std::fs::write(&path, "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\"}\n{\"prompt\":\"q\"}\n")
            .expect("written");
        let error = read::<Pair>(&path).expect_err("a bad row").to_string();
        assert!(error.contains("line 2") && error.contains("chosen"), "{error}");
    }

    #[test]
    fn settings_are_written_as_people_write_them() {
        #[derive(Serialize)]
        struct Settings(#[serde(serialize_with = "as_written")] f32);
        let text = |value| serde_json::to_string(&Settings(value)).expect("text");
        assert_eq!([0.3, 1.0, 0.0, 1e-7].map(text), ["0.3", "1.0", "0.0", "1e-7"]);
    }

    #[test]
    fn labels_are_true_false_or_a_share() {
        let labels: Vec<Label> = serde_json::from_str("[true,false,0.25]").expect("labels");
        assert_eq!(labels, [Label::Hard(true), Label::Hard(false), Label::Soft(0.25)]);
        assert_eq!(serde_json::to_string(&labels).expect("text"), "[true,false,0.25]");
        assert!(serde_json::from_str::<Label>("\"yes\"").is_err());
    }
}
