//! Paths to score: samples, labelled rows, or ProcessBench's rows.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use sipf_core::dataset;
use sipf_core::reward::{Layout, RewardNet, asking};
use sipf_core::{Error, Result};
use sipf_plugin::{DataFormat, Problem, RewardModel};

/// One path: a problem and its steps.
#[derive(Debug, Clone)]
pub(super) struct PathRow {
    /// What `scores.jsonl` calls it.
    pub(super) name: String,
    pub(super) problem: Problem,
    /// The whole completion, where the row has one.
    pub(super) completion: String,
    pub(super) steps: Vec<String>,
    /// The first wrong step, where the row says (ProcessBench): `Some(None)` means none is wrong.
    pub(super) first_wrong: Option<Option<usize>>,
    /// Labels of the steps, where the row has them.
    pub(super) labels: Option<Vec<f32>>,
    /// `false` of a sample that no later stage uses.
    pub(super) kept: bool,
}

fn format_of(path: &Path) -> DataFormat {
    match path.extension().and_then(|end| end.to_str()) {
        Some("json") => DataFormat::Json,
        Some("parquet") => DataFormat::Parquet,
        _ => DataFormat::Jsonl,
    }
}

/// The rows of a file: `{prompt, completion, steps}` as `samples.jsonl` has them, `{prompt, completions, labels?}`, or
/// ProcessBench's `{problem, steps, label}`.
pub(super) fn read(path: &Path) -> Result<Vec<PathRow>> {
    let mut rows = Vec::new();
    dataset::read_rows(path, format_of(path), &mut |index, row| {
        let mut made = parse(&row, index).map_err(|what| Error::row(path, index as usize + 1, what))?;
        if let Some(question) = row.get("question").and_then(Value::as_str) {
            made.problem = asking(&made.problem.id, question, Some(question));
        }
        made.kept = row.get("kept") != Some(&Value::Bool(false));
        rows.push(made);
        Ok(true)
    })?;
    Ok(rows)
}

fn parse(row: &Value, index: u64) -> std::result::Result<PathRow, String> {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    let name = text("id").or_else(|| text("sample")).map_or_else(|| index.to_string(), str::to_owned);
    let texts = |value: &Value, key: &str| -> std::result::Result<Vec<String>, String> {
        let list = value.as_array().ok_or_else(|| format!("key {key:?} is no list"))?;
        list.iter()
            .map(|item| {
                item.as_str().map(str::to_owned).ok_or_else(|| format!("{key:?} holds something but text"))
            })
            .collect()
    };
    if let Some(completions) = row.get("completions") {
        let prompt = text("prompt").ok_or("key \"prompt\" is missing")?;
        let labels = row.get("labels").and_then(Value::as_array).map(|labels| {
            let number = |label: &Value| {
                label.as_bool().map_or_else(|| label.as_f64(), |b| Some(f64::from(u8::from(b))))
            };
            labels.iter().map(|label| number(label).unwrap_or(0.0) as f32).collect()
        });
        let steps = texts(completions, "completions")?;
        return Ok(path(name, text("problem"), prompt, steps.join("\n"), steps, None, labels));
    }
    if let (Some(problem), Some(Value::Array(_)), Some(label)) =
        (text("problem"), row.get("steps"), row.get("label"))
    {
        let label = label.as_i64().ok_or("key \"label\" is no whole number")?;
        let steps = texts(&row["steps"], "steps")?;
        if label >= steps.len() as i64 {
            return Err(format!("label {label}, but there are {} steps", steps.len()));
        }
        let first = Some(usize::try_from(label).ok());
        let mut row = path(name.clone(), Some(&name), problem, steps.join("\n"), steps, first, None);
        row.problem = asking(&name, problem, Some(problem));
        return Ok(row);
    }
    let (prompt, completion) = (
        text("prompt").ok_or("key \"prompt\" is missing")?,
        text("completion").ok_or("key \"completion\" is missing")?,
    );
    let steps = match row.get("steps").and_then(Value::as_array) {
        Some(spans) => spans
            .iter()
            .map(|span| {
                let at = |key: &str| span.get(key).and_then(Value::as_u64).map(|at| at as usize);
                let (start, end) = at("start").zip(at("end")).ok_or("a step has no start and end")?;
                completion.get(start..end).map(str::to_owned).ok_or("a step lies outside the completion")
            })
            .collect::<std::result::Result<Vec<_>, _>>()?,
        None => sipf_plugin::text::lines(completion)
            .map(|(start, end)| completion[start..end].to_owned())
            .collect(),
    };
    Ok(path(name, text("problem"), prompt, completion.to_owned(), steps, None, None))
}

fn path(
    name: String,
    problem: Option<&str>,
    prompt: &str,
    completion: String,
    steps: Vec<String>,
    first_wrong: Option<Option<usize>>,
    labels: Option<Vec<f32>>,
) -> PathRow {
    let id = problem.unwrap_or(&name).to_owned();
    let problem = asking(&id, prompt, None);
    PathRow { name, problem, completion, steps, first_wrong, labels, kept: true }
}

/// What lies beyond the longest sequence that the model reads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beyond {
    pub(super) steps: usize,
    pub(super) paths: usize,
}

/// Step scores of every path; steps beyond the longest sequence score 0, are counted, and are told.
pub(super) fn scores(
    net: &RewardNet,
    reward: &dyn RewardModel,
    rows: &[PathRow],
    progress: &sipf_core::progress::Progress,
) -> anyhow::Result<(Vec<Vec<f32>>, Beyond)> {
    let (mut all, mut beyond) = (Vec::with_capacity(rows.len()), Beyond::default());
    for chunk in rows.chunks(256) {
        let layouts: Vec<Layout> = chunk
            .iter()
            .map(|row| {
                let steps: Vec<&str> = row.steps.iter().map(String::as_str).collect();
                let mut layout =
                    net.layout(reward, &row.problem, &steps).with_context(|| row.name.clone())?;
                let lost = layout.truncate(net.context());
                beyond.steps += lost;
                beyond.paths += usize::from(lost > 0);
                Ok(layout)
            })
            .collect::<anyhow::Result<_>>()?;
        let mut scores = net.score_layouts(&layouts)?;
        for (scores, row) in scores.iter_mut().zip(chunk) {
            scores.resize(row.steps.len(), 0.0);
        }
        progress.add(chunk.len() as u64);
        all.extend(scores);
    }
    if beyond.steps > 0 {
        progress.note(&format!(
            "{} steps of {} paths lie beyond the {} tokens that the model reads, and score 0",
            beyond.steps,
            beyond.paths,
            net.context()
        ));
    }
    Ok((all, beyond))
}
