//! The files of an evaluation: `eval.json` with all numbers, and `results.json` and `samples_{task}.jsonl` in the shape
//! of lm-evaluation-harness. Nothing in them says when or where they were made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Answer, Answers, EvaluateSettings, Evaluation, Summary, compare};
use crate::error::{Error, Result};
use crate::model::save::write_text;
use crate::{AtPath, record, work};

/// The file of a task's answers in a folder; the journal of an unfinished evaluation lies beside it.
pub fn samples_file(folder: &Path, task: &str) -> PathBuf {
    folder.join(format!("samples_{task}.jsonl"))
}

/// Evaluations to hold these ones against, by name (`iter-0`, `previous`, `control`).
pub type Earlier<'a> = [(&'a str, &'a [Evaluation])];

/// The numbers as `eval.json` holds them: the first evaluation's at the top, the others' under `transfer` by task,
/// comparisons with earlier evaluations of the same task under `against`.
///
/// # Errors
/// When there is no evaluation.
pub fn summary(evaluations: &[Evaluation], earlier: &Earlier<'_>) -> Result<Value> {
    let (own, others) =
        evaluations.split_first().ok_or_else(|| Error::unusable("there is no evaluation to sum up"))?;
    let mut found = one(own, earlier)?;
    if !others.is_empty() {
        let transfer: Map<String, Value> = others
            .iter()
            .map(|evaluation| Ok((evaluation.task.clone(), one(evaluation, earlier)?)))
            .collect::<Result<_>>()?;
        found["transfer"] = transfer.into();
    }
    Ok(found)
}

fn one(evaluation: &Evaluation, earlier: &Earlier<'_>) -> Result<Value> {
    let mut found = serde_json::to_value(evaluation.summary())?;
    let mut against = Map::new();
    for (name, evaluations) in earlier {
        if let Some(then) = evaluations.iter().find(|then| then.task == evaluation.task) {
            against.insert((*name).to_owned(), serde_json::to_value(compare(evaluation, then))?);
        }
    }
    if !against.is_empty() {
        found["against"] = against.into();
    }
    Ok(found)
}

/// Writes `eval.json`, `results.json` and `samples_{task}.jsonl` for every task, the run's own first, and removes the
/// journals. `model` is what `results.json` calls the model. Returns what `eval.json` holds.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, evaluations: &[Evaluation], earlier: &Earlier<'_>, model: &str) -> Result<Value> {
    std::fs::create_dir_all(folder).at(folder)?;
    let found = summary(evaluations, earlier)?;
    for evaluation in evaluations {
        let rows = harness_rows(evaluation)?;
        record::write(&samples_file(folder, &evaluation.task), &rows)?;
    }
    let results = harness_results(evaluations, model)?;
    write_text(&folder.join("results.json"), &format!("{results:#}\n"))?;
    write_text(&folder.join("eval.json"), &format!("{found:#}\n"))?;
    for evaluation in evaluations {
        work::finish(&samples_file(folder, &evaluation.task))?;
    }
    Ok(found)
}

/// Writes one evaluation beside others under names with a time: `results_{stamp}.json` (with the numbers of `eval.json`
/// under `sipf`) and `samples_{task}_{stamp}.jsonl`, and removes the journal. Returns the names.
///
/// # Errors
/// When a file cannot be written.
pub fn write_stamped(
    folder: &Path,
    evaluation: &Evaluation,
    model: &str,
    stamp: &str,
) -> Result<Vec<String>> {
    let evaluations = std::slice::from_ref(evaluation);
    let names = vec![format!("results_{stamp}.json"), format!("samples_{}_{stamp}.jsonl", evaluation.task)];
    record::write(&folder.join(&names[1]), &harness_rows(evaluation)?)?;
    let mut results = harness_results(evaluations, model)?;
    results["date"] = stamp.into();
    results["sipf"] = summary(evaluations, &[])?;
    write_text(&folder.join(&names[0]), &format!("{results:#}\n"))?;
    work::finish(&samples_file(folder, &evaluation.task))?;
    Ok(names)
}

/// Reads the evaluations of a folder, the run's own first.
///
/// # Errors
/// Names the file, and the line, that cannot be read.
pub fn read(folder: &Path) -> Result<Vec<Evaluation>> {
    let path = folder.join("eval.json");
    let text = std::fs::read_to_string(&path).at(&path)?;
    let bad = |error: serde_json::Error| Error::file(&path, error.to_string());
    let mut value: Value = serde_json::from_str(&text).map_err(bad)?;
    let transfer = value.as_object_mut().and_then(|map| map.shift_remove("transfer"));
    let mut summaries: Vec<Summary> = vec![serde_json::from_value(value).map_err(bad)?];
    if let Some(others) = transfer {
        let others: BTreeMap<String, Summary> = serde_json::from_value(others).map_err(bad)?;
        summaries.extend(others.into_values());
    }
    summaries
        .into_iter()
        .map(|summary| {
            let path = samples_file(folder, &summary.task);
            let rows: Vec<Value> = record::read(&path)?;
            let answers = (1..).zip(rows).map(|(line, row)| {
                answers_of(row).map_err(|error| Error::row(&path, line, error.to_string()))
            });
            Ok(Evaluation {
                answers: answers.collect::<Result<_>>()?,
                task: summary.task,
                metric: summary.metric,
                rule: summary.rule,
                settings: summary.settings,
            })
        })
        .collect()
}

/// Rows of `samples_{task}.jsonl`: lm-eval's keys, then ours.
pub fn harness_rows(evaluation: &Evaluation) -> Result<Vec<Value>> {
    let settings = &evaluation.settings;
    let rows = evaluation.answers.iter().enumerate();
    rows.map(|(place, answers)| harness_row(place, answers, settings)).collect()
}

fn harness_row(place: usize, answers: &Answers, settings: &EvaluateSettings) -> Result<Value> {
    // lm-eval's row is about one answer a problem: the greedy one, else the first sample.
    let first = answers.all().next();
    let text = first.map(|answer| answer.completion.as_str()).unwrap_or_default();
    let answer = first.and_then(|answer| answer.judged.answer.as_deref()).unwrap_or(text);
    let right = first.is_some_and(|answer| answer.judged.passed);
    let mut doc = json!({ "id": answers.problem, "question": answers.question });
    if answers.group != answers.problem {
        doc["group"] = answers.group.clone().into();
    }
    let mut row = json!({
        "doc_id": place,
        "doc": doc,
        "target": answers.target,
        "arguments": { "gen_args_0": { "arg_0": answers.prompt, "arg_1": generation(settings) } },
        "resps": [[text]],
        "filtered_resps": [answer],
        "exact_match": f64::from(u8::from(right)),
        "passed": right,
    });
    if let Some(greedy) = &answers.greedy {
        let mut greedy = serde_json::to_value(greedy)?;
        // Its text is what `resps` holds.
        greedy.as_object_mut().map(|map| map.shift_remove("completion"));
        row["greedy"] = greedy;
    }
    if !answers.samples.is_empty() {
        row["samples"] = serde_json::to_value(&answers.samples)?;
    }
    Ok(row)
}

fn answers_of(row: Value) -> Result<Answers> {
    let text = |pointer: &str| row.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let needed =
        |pointer: &str| text(pointer).ok_or_else(|| Error::unusable(format!("no text at {pointer}")));
    let problem = needed("/doc/id")?;
    let greedy = match row.get("greedy") {
        Some(greedy) => {
            let greedy: Answer = serde_json::from_value(greedy.clone())?;
            Some(Answer { completion: needed("/resps/0/0")?, ..greedy })
        }
        None => None,
    };
    Ok(Answers {
        group: text("/doc/group").unwrap_or_else(|| problem.clone()),
        question: needed("/doc/question")?,
        target: needed("/target")?,
        prompt: needed("/arguments/gen_args_0/arg_0")?,
        samples: row
            .get("samples")
            .map(|s| serde_json::from_value(s.clone()))
            .transpose()?
            .unwrap_or_default(),
        problem,
        greedy,
    })
}

/// lm-eval's words for how an answer was made.
fn generation(settings: &EvaluateSettings) -> Value {
    let temperature = if settings.greedy { 0.0 } else { settings.temperature };
    json!({
        "until": settings.stop,
        "max_gen_toks": settings.max_tokens,
        "do_sample": temperature > 0.0,
        "temperature": temperature,
    })
}

/// `results.json`, as lm-eval writes it, without times and machine.
pub fn harness_results(evaluations: &[Evaluation], model: &str) -> Result<Value> {
    let mut results = Map::new();
    let (mut configs, mut shots, mut counts, mut versions) = (Map::new(), Map::new(), Map::new(), Map::new());
    let mut better = Map::new();
    for evaluation in evaluations {
        let (task, summary) = (evaluation.task.clone(), evaluation.summary());
        let (found, higher) = harness_metrics(&summary);
        results.insert(task.clone(), found.into());
        better.insert(task.clone(), higher.into());
        let shot_count = if summary.settings.few_shot { "task" } else { "none" };
        configs.insert(
            task.clone(),
            json!({
                "task": task,
                "output_type": "generate_until",
                "generation_kwargs": generation(&summary.settings),
                "repeats": summary.settings.samples.max(1),
                "few_shot": shot_count,
            }),
        );
        shots.insert(task.clone(), shot_count.into());
        versions.insert(task.clone(), env!("CARGO_PKG_VERSION").into());
        counts.insert(task, json!({ "original": summary.problems, "effective": summary.problems }));
    }
    Ok(json!({
        "results": results,
        "configs": configs,
        "versions": versions,
        "n-shot": shots,
        "higher_is_better": better,
        "n-samples": counts,
        "config": { "model": "sipf", "model_args": model },
        "model_name": model,
    }))
}

/// `metric,filter` and `metric_stderr,filter`, as lm-eval names them; the filter is the answer rule or how it was drawn.
fn harness_metrics(summary: &Summary) -> (Map<String, Value>, Map<String, Value>) {
    let mut found = Map::from_iter([("alias".to_owned(), Value::from(summary.task.clone()))]);
    let mut better = Map::new();
    let mut put = |metric: &str, filter: &str, value: Option<f64>, error: Option<f64>| {
        if let Some(value) = value {
            found.insert(format!("{metric},{filter}"), value.into());
            found.insert(
                format!("{metric}_stderr,{filter}"),
                error.map_or_else(|| Value::from("N/A"), Value::from),
            );
            better.insert(metric.to_owned(), true.into());
        }
    };
    let rule = if summary.rule.is_empty() { "none" } else { &summary.rule };
    put("exact_match", rule, summary.accuracy, summary.stderr);
    for (name, value) in summary.by_rule.iter().filter(|(name, _)| *name != rule) {
        put("exact_match", name, Some(*value), None);
    }
    put("exact_match", "sampled", summary.sampled_accuracy, summary.sampled_stderr);
    put("exact_match", "majority", summary.majority, None);
    put("exact_match", "best_of_n", summary.best_of_n, None);
    put("exact_match", "reward_vote", summary.reward_vote, None);
    for (filter, values) in [("sampled", &summary.pass_at_k), ("greedy", &summary.greedy_pass_at_k)] {
        for (k, value) in values {
            put(&format!("pass@{k}"), filter, Some(*value), None);
        }
    }
    for (name, measured) in &summary.measures {
        put(name, "greedy", measured.greedy, None);
        put(name, "sampled", measured.sampled, measured.sampled_stderr);
    }
    (found, better)
}
