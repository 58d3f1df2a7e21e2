//! The data behind the browser of questions: every path with its steps, labels, scores, verdict and pairs, and the
//! greedy answers of every iteration. A run with more of them than a browser opens at once shows evenly spaced questions.

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

/// Bytes of questions that a page holds where not all are asked for: it then opens within a second or two.
const PAGE_BYTES: usize = 16 << 20;

/// What the browser shows.
pub(super) struct Questions {
    /// JSON for the page.
    pub(super) shown: Value,
    /// How many there are, the ones left out included.
    pub(super) total: usize,
}

impl Questions {
    /// How many are in the page.
    pub(super) fn count(&self) -> usize {
        self.shown.as_array().map_or(0, Vec::len)
    }

    /// All, or as many evenly spaced ones as fit into the page.
    pub(super) fn of(run: &Run, all: bool) -> Self {
        Self::within(questions(run), if all { usize::MAX } else { PAGE_BYTES })
    }

    fn within(questions: Vec<Value>, bytes: usize) -> Self {
        let total = questions.len();
        let sizes: usize = questions.iter().map(|question| question.to_string().len()).sum();
        let keep = match sizes <= bytes {
            true => total,
            false => ((bytes as f64 / sizes as f64 * total as f64) as usize).max(1),
        };
        // Question n is kept where n * keep / total steps up: evenly, the first one among them.
        let evenly = |(place, _): &(usize, Value)| place * keep % total.max(1) < keep;
        let shown: Vec<Value> =
            questions.into_iter().enumerate().filter(evenly).map(|(_, question)| question).collect();
        Self { shown: Value::Array(shown), total }
    }
}

/// An id without its problem's, where it begins with it: the page knows the question already.
fn short<'a>(id: &'a str, problem: &str) -> &'a str {
    id.strip_prefix(problem).and_then(|rest| rest.strip_prefix('#')).unwrap_or(id)
}

/// All questions, in natural order of their ids.
fn questions(run: &Run) -> Vec<Value> {
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
                let other = short(other, &pair.problem);
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
            let id = short(&sample.id, &sample.problem);
            let mut path = json!({ "id": id, "m": number, "t": sample.completion, "ok": u8::from(sample.passed), "s": steps });
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
    questions
        .into_iter()
        .map(|(id, (prompt, paths, greedy))| json!({ "id": id, "q": prompt, "paths": paths, "greedy": greedy }))
        .collect()
}

/// Three decimals are what the page shows.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_run_shows_evenly_spaced_questions_and_a_small_one_all() {
        let questions = || (0..100).map(|n| json!({ "id": n })).collect::<Vec<Value>>();
        let size: usize = questions().iter().map(|question| question.to_string().len()).sum();
        let all = Questions::within(questions(), size);
        assert_eq!((all.count(), all.total), (100, 100));
        let some = Questions::within(questions(), size.div_ceil(4));
        let ids: Vec<i64> =
            some.shown.as_array().expect("a list").iter().filter_map(|q| q["id"].as_i64()).collect();
        assert_eq!(some.total, 100);
        assert_eq!(ids, (0..25).map(|n| n * 4).collect::<Vec<_>>());
        assert_eq!(Questions::within(questions(), 1).count(), 1);
        assert_eq!(Questions::within(Vec::new(), 1).count(), 0);
    }

    #[test]
    fn ids_are_cut_only_where_the_question_says_the_rest() {
        assert_eq!(short("t/7#1.3", "t/7"), "1.3");
        assert_eq!(short("t/71#1.3", "t/7"), "t/71#1.3");
        assert_eq!(short("other", "t/7"), "other");
    }
}
