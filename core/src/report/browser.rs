//! The data behind the browser of questions: every path with its steps, labels, scores, verdict and pairs, and the
//! greedy answers of every iteration.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::read::{Label, Run, Scores};

/// A step's end in UTF-16 units, as the page's script counts.
fn utf16(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    text[..byte].encode_utf16().count()
}

/// Compares ids as people read them: numbers by value.
fn natural(id: &str) -> Vec<(u64, String)> {
    id.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')
        .map(|part| {
            let digits: String = part.chars().filter(char::is_ascii_digit).collect();
            (digits.parse().unwrap_or(0), part.to_owned())
        })
        .collect()
}

/// All questions, in natural order of their ids.
pub(super) fn questions(run: &Run) -> Value {
    let labels: BTreeMap<&str, &[Label]> =
        run.labels.iter().map(|row| (row.sample.as_str(), row.steps.as_slice())).collect();
    let mut scores: BTreeMap<&str, &Scores> = BTreeMap::new();
    let mut pairs: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (number, iteration) in run.iterations.iter().enumerate() {
        scores.extend(iteration.scores.iter().map(|row| (row.sample.as_str(), row)));
        for pair in &iteration.pairs {
            let margin = round(pair.chosen_reward - pair.rejected_reward);
            let sides = [
                (&pair.chosen_sample, 1, &pair.rejected_sample),
                (&pair.rejected_sample, 0, &pair.chosen_sample),
            ];
            for (sample, chosen, other) in sides {
                pairs.entry(sample).or_default().push(json!([number, chosen, other, margin]));
            }
        }
    }
    let mut found: BTreeMap<&str, (String, Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for (number, iteration) in run.iterations.iter().enumerate() {
        for sample in &iteration.samples {
            let entry =
                found.entry(&sample.problem).or_insert_with(|| (sample.prompt.clone(), vec![], vec![]));
            let scored = scores.get(sample.id.as_str());
            let label = labels.get(sample.id.as_str()).copied().unwrap_or_default();
            let steps: Vec<Value> = sample
                .steps
                .iter()
                .enumerate()
                .map(|(n, span)| {
                    let text = &sample.completion;
                    let mut step = vec![json!(utf16(text, span.start)), json!(utf16(text, span.end))];
                    step.push(scored.and_then(|s| s.scores.get(n)).map_or(Value::Null, |s| json!(round(*s))));
                    step.push(label.get(n).map_or(Value::Null, |l| json!([l.right, l.tried, l.label])));
                    Value::Array(step)
                })
                .collect();
            let mut path = json!({ "id": sample.id, "m": number, "t": sample.completion, "ok": u8::from(sample.passed), "s": steps });
            let optional = [
                ("r", scored.map(|s| json!(round(s.reward)))),
                ("v", sample.verdict.clone().map(Value::from)),
                ("a", sample.answer.clone().map(Value::from)),
                ("d", (!sample.kept).then(|| json!(sample.dropped_because.as_deref().unwrap_or("not kept")))),
                ("p", pairs.remove(sample.id.as_str()).map(Value::from)),
            ];
            for (key, value) in optional {
                if let Some(value) = value {
                    path[key] = value;
                }
            }
            entry.1.push(path);
        }
    }
    let arms = run.iterations.iter().enumerate().map(|(n, arm)| (format!("M{n}"), arm));
    let arms = arms.chain(run.control.iter().map(|arm| ("control".to_owned(), arm)));
    for (name, arm) in arms {
        for answer in arm.answers.values().flatten() {
            let entry =
                found.entry(&answer.problem).or_insert_with(|| (answer.prompt.clone(), vec![], vec![]));
            entry.2.push(json!([name, u8::from(answer.passed), answer.completion]));
        }
    }
    let mut questions: Vec<(&str, _)> = found.into_iter().collect();
    // Questions with paths first: they have the most to show.
    questions.sort_by_cached_key(|(id, (_, paths, _))| (paths.is_empty(), natural(id)));
    let questions = questions.into_iter().map(
        |(id, (prompt, paths, greedy))| json!({ "id": id, "q": prompt, "paths": paths, "greedy": greedy }),
    );
    Value::Array(questions.collect())
}

/// Three decimals are what the page shows.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
