//! What the report reads of a run folder. Files that are not there yet are left out: a run can be looked at half way.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{AtPath, Error, Result, of_json_line};

/// A run folder, as far as it exists.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// `run.toml`, flattened to `section.key`.
    pub(super) settings: BTreeMap<String, String>,
    pub(super) manifest: Value,
    pub(super) timings: Value,
    /// By iteration, 0 first.
    pub(super) iterations: Vec<Iteration>,
    /// Continued SFT, where it was asked for.
    pub(super) control: Option<Iteration>,
    pub(super) sft: Vec<Value>,
    pub(super) reward: Vec<Value>,
    pub(super) quality: Value,
    pub(super) labels: Vec<Labels>,
}

/// One iteration's folder.
#[derive(Debug, Default)]
pub(super) struct Iteration {
    pub(super) evaluation: Value,
    /// Greedy answers, by task.
    pub(super) answers: BTreeMap<String, Vec<Greedy>>,
    pub(super) samples: Vec<Sample>,
    pub(super) scores: Vec<Scores>,
    pub(super) pairs: Vec<Pair>,
    pub(super) metrics: Vec<Value>,
}

/// A line of `samples.jsonl`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sample {
    pub(super) id: String,
    pub(super) problem: String,
    pub(super) prompt: String,
    pub(super) completion: String,
    pub(super) passed: bool,
    pub(super) answer: Option<String>,
    pub(super) verdict: Option<String>,
    pub(super) steps: Vec<Span>,
    pub(super) kept: bool,
    pub(super) dropped_because: Option<String>,
    pub(super) flaw: Option<String>,
}

/// A step's place.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A line of `labels.jsonl`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Labels {
    pub(super) sample: String,
    pub(super) k: u32,
    pub(super) steps: Vec<Label>,
}

/// A step's rollouts.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct Label {
    pub(super) tried: u32,
    pub(super) right: u32,
    pub(super) label: f64,
}

/// A line of `scores.jsonl`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scores {
    pub(super) sample: String,
    pub(super) scores: Vec<f64>,
    pub(super) reward: f64,
}

/// A line of `pairs.jsonl`, without its texts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pair {
    pub(super) problem: String,
    pub(super) chosen_sample: String,
    pub(super) rejected_sample: String,
    pub(super) chosen_reward: f64,
    pub(super) rejected_reward: f64,
}

/// A greedy answer of an evaluation.
#[derive(Debug, Default)]
pub(super) struct Greedy {
    pub(super) problem: String,
    pub(super) prompt: String,
    pub(super) completion: String,
    pub(super) passed: bool,
}

/// Reads a run folder.
///
/// # Errors
/// When it is no run folder, or a file in it cannot be read.
pub(super) fn run(folder: &Path) -> Result<Run> {
    let settings = folder.join("run.toml");
    if !settings.is_file() {
        return Err(Error::file(
            folder,
            "is no run folder: there is no run.toml in it (give the folder of `sipf run`)",
        ));
    }
    let text = std::fs::read_to_string(&settings).at(&settings)?;
    let table: toml::Table = text.parse().map_err(|error| Error::file(&settings, format!("{error}")))?;
    let mut run = Run {
        manifest: json(&folder.join("manifest.json"))?,
        timings: json(&folder.join("timings.json"))?,
        sft: metrics(&folder.join("sft/metrics.jsonl"))?,
        reward: metrics(&folder.join("reward/metrics.jsonl"))?,
        quality: json(&folder.join("reward/quality.json"))?,
        labels: lines(&folder.join("iter-0/labels.jsonl"))?,
        ..Run::default()
    };
    flatten("", &toml::Value::Table(table), &mut run.settings);
    for number in 0.. {
        let iteration = folder.join(format!("iter-{number}"));
        if !iteration.is_dir() {
            break;
        }
        run.iterations.push(read_iteration(&iteration)?);
    }
    let control = folder.join("control");
    run.control = control.is_dir().then(|| read_iteration(&control)).transpose()?;
    Ok(run)
}

fn read_iteration(folder: &Path) -> Result<Iteration> {
    let policy = folder.join("policy/metrics.jsonl");
    let own = folder.join("metrics.jsonl");
    Ok(Iteration {
        evaluation: json(&folder.join("eval.json"))?,
        answers: answers(folder)?,
        samples: lines(&folder.join("samples.jsonl"))?,
        scores: lines(&folder.join("scores.jsonl"))?,
        pairs: lines(&folder.join("pairs.jsonl"))?,
        metrics: metrics(if policy.is_file() { &policy } else { &own })?,
    })
}

/// `samples_{task}.jsonl`, in the shape of lm-evaluation-harness.
fn answers(folder: &Path) -> Result<BTreeMap<String, Vec<Greedy>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).at(folder)? {
        let name = entry.at(folder)?.file_name().to_string_lossy().into_owned();
        if let Some(task) = name.strip_prefix("samples_").and_then(|name| name.strip_suffix(".jsonl")) {
            let rows: Vec<Value> = lines(&folder.join(&name))?;
            found.insert(task.to_owned(), rows.iter().filter_map(greedy).collect());
        }
    }
    Ok(found)
}

fn greedy(row: &Value) -> Option<Greedy> {
    let doc = row.get("doc").unwrap_or(&Value::Null);
    let first = |key: &str| row.get(key).map(first_text).filter(|text| !text.is_empty());
    let named = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let problem = named(row, "problem").or_else(|| named(doc, "id")).or_else(|| named(row, "doc_id"))?;
    let prompt = named(doc, "question").or_else(|| named(row, "prompt")).or_else(|| first("arguments"));
    let completion = named(row, "completion").or_else(|| first("resps"));
    let passed = row.get("passed").and_then(Value::as_bool);
    let matched = row.get("exact_match").or_else(|| row.get("acc")).and_then(Value::as_f64);
    Some(Greedy {
        problem,
        prompt: prompt.unwrap_or_default(),
        completion: completion.unwrap_or_default(),
        passed: passed.unwrap_or(matched.is_some_and(|value| value > 0.5)),
    })
}

/// The first text in nested lists.
fn first_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.first().map(first_text).unwrap_or_default(),
        Value::Object(map) => map.values().next().map(first_text).unwrap_or_default(),
        _ => String::new(),
    }
}

fn json(path: &Path) -> Result<Value> {
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let text = std::fs::read_to_string(path).at(path)?;
    serde_json::from_str(&text).map_err(|error| Error::file(path, error.to_string()))
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).at(path)?;
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if !line.trim().is_empty() {
            found.push(
                serde_json::from_str(line).map_err(|error| Error::row(path, number, of_json_line(&error)))?,
            );
        }
    }
    Ok(found)
}

fn metrics(path: &Path) -> Result<Vec<Value>> {
    lines(path)
}

fn flatten(prefix: &str, value: &toml::Value, found: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, found);
            }
        }
        toml::Value::String(text) => drop(found.insert(prefix.to_owned(), text.clone())),
        other => drop(found.insert(prefix.to_owned(), other.to_string())),
    }
}

/// All numbers in a JSON value, by `outer.inner` name, in its own order.
pub(super) fn numbers(value: &Value) -> Vec<(String, f64)> {
    fn walk(prefix: &str, value: &Value, found: &mut Vec<(String, f64)>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&name, value, found);
                }
            }
            Value::Number(number) => found.extend(number.as_f64().map(|number| (prefix.to_owned(), number))),
            Value::Bool(flag) => found.push((prefix.to_owned(), f64::from(u8::from(*flag)))),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("", value, &mut found);
    found
}

/// The headline numbers of one evaluation (`E` of the command line's contract).
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Headline {
    pub(super) accuracy: Option<f64>,
    pub(super) sampled: Option<f64>,
    pub(super) problems: f64,
    pub(super) measures: Map<String, Value>,
    /// 95 % interval of the sampled accuracy, where the evaluation gives one.
    pub(super) sampled_interval: Option<(f64, f64)>,
    /// 95 % interval of the greedy accuracy, likewise.
    pub(super) interval: Option<(f64, f64)>,
}

impl Run {
    /// A setting by the last part of its name.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        let exact = self.settings.get(name);
        let ends =
            || self.settings.iter().find(|(key, _)| key.rsplit('.').next() == Some(name)).map(|(_, v)| v);
        exact.or_else(ends).map(String::as_str)
    }

    /// The run's own task.
    pub(super) fn task(&self) -> String {
        self.setting("task").unwrap_or("task").to_owned()
    }
}

impl Iteration {
    /// What the evaluation says of each task: the run's own first.
    pub(super) fn headlines(&self, own: &str) -> Vec<(String, Headline)> {
        let mut found: Vec<(String, Headline)> = Vec::new();
        let mut put = |task: &str, value: &Value| {
            if let Some(headline) = headline(value)
                && !found.iter().any(|(name, _)| name == task)
            {
                found.push((task.to_owned(), headline));
            }
        };
        let named = self.evaluation.get("task").and_then(Value::as_str).unwrap_or(own);
        put(named, &self.evaluation);
        for key in ["results", "tasks", "transfer"] {
            for (task, value) in self.evaluation.get(key).and_then(Value::as_object).into_iter().flatten() {
                put(task, value);
            }
        }
        found.sort_by_key(|(task, _)| task != own);
        found
    }
}

fn headline(value: &Value) -> Option<Headline> {
    let number = |key: &str| value.get(key).and_then(|v| v.as_f64().or_else(|| v.get("value")?.as_f64()));
    let accuracy = number("accuracy").or_else(|| number("greedy_accuracy"));
    let sampled = number("sampled_accuracy");
    let interval = |key: &str| {
        let ends = value.get(key)?;
        ends.get(0)?.as_f64().zip(ends.get(1)?.as_f64())
    };
    (accuracy.is_some() || sampled.is_some()).then(|| Headline {
        interval: interval("interval"),
        sampled_interval: interval("sampled_interval"),
        accuracy,
        sampled,
        problems: number("problems").unwrap_or(0.0),
        measures: value.get("measures").and_then(Value::as_object).cloned().unwrap_or_default(),
    })
}
