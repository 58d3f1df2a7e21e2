//! Two models on the same problems: what one gets right that the other does not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::metric::{clustered, mcnemar};
use super::{Answer, Answers, Evaluation};

/// A model held against an earlier one, problem by problem. Differences are this one's number less the other's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    /// Problems that both were asked.
    pub problems: usize,
    /// Greedy answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub greedy: Option<Paired>,
    /// Share of right samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Paired>,
    /// The task's measures over samples (over greedy answers where there are none).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, Paired>,
}

/// A paired difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Paired {
    /// Mean of the differences.
    pub difference: f64,
    /// Its standard error over groups of problems.
    pub stderr: f64,
    /// Greedy answers that became right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gained: Option<usize>,
    /// Greedy answers that became wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<usize>,
    /// McNemar's exact two-sided p; absent where several prompts ask the same problem, which it takes for independent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcnemar_p: Option<f64>,
}

type Value<'v> = &'v dyn Fn(&Answers) -> Option<f64>;

/// Holds `now` against `then`, on the problems that both were asked.
pub fn compare(now: &Evaluation, then: &Evaluation) -> Comparison {
    let before: BTreeMap<&str, &Answers> =
        then.answers.iter().map(|answers| (answers.problem.as_str(), answers)).collect();
    let groups: Vec<Vec<(&Answers, &Answers)>> = now
        .groups()
        .into_iter()
        .map(|group| group.into_iter().filter_map(|a| Some((a, *before.get(a.problem.as_str())?))).collect())
        .collect();
    let difference = |value: Value<'_>| {
        let differences: Vec<Vec<f64>> = groups
            .iter()
            .map(|group| group.iter().filter_map(|(a, b)| Some(value(a)? - value(b)?)).collect())
            .collect();
        let mean = clustered(differences.iter().map(Vec::as_slice))?;
        Some(Paired { difference: mean.value, stderr: mean.error, ..Paired::default() })
    };
    let greedy = difference(&|a| Some(passed(a.greedy.as_ref()?))).map(|paired| {
        let all = groups.iter().flatten();
        let count = |was: f64, is: f64| {
            let changed = |(a, b): &&(&Answers, &Answers)| {
                let sides = a.greedy.as_ref().zip(b.greedy.as_ref());
                sides.is_some_and(|(a, b)| (passed(b), passed(a)) == (was, is))
            };
            all.clone().filter(changed).count()
        };
        let (gained, lost) = (count(0.0, 1.0), count(1.0, 0.0));
        let apart = groups.iter().all(|group| group.len() <= 1);
        let mcnemar_p = apart.then(|| mcnemar(gained, lost));
        Paired { gained: Some(gained), lost: Some(lost), mcnemar_p, ..paired }
    });
    let measures = now.measure_names().into_iter().filter_map(|name| {
        let sampled = difference(&|a| mean(&a.samples, &|answer| answer.measure(name)));
        let paired = sampled.or_else(|| difference(&|a| a.greedy.as_ref()?.measure(name)))?;
        Some((name.to_owned(), paired))
    });
    Comparison {
        problems: groups.iter().map(Vec::len).sum(),
        greedy,
        sampled: difference(&|a| mean(&a.samples, &|answer| Some(passed(answer)))),
        measures: measures.collect(),
    }
}

fn passed(answer: &Answer) -> f64 {
    f64::from(u8::from(answer.judged.passed))
}

fn mean(samples: &[Answer], value: &dyn Fn(&Answer) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = samples.iter().filter_map(value).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
