//! The numbers of an evaluation, as `eval.json` and `--json` hold them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sipf_plugin::Metric;

use super::metric::{Mean, clustered, mean_pass_at_k, wilson};
use super::{Answer, Answers, EvaluateSettings, Evaluation};

/// The numbers of one task. Shares are of 1; what was not done is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// The task's name.
    pub task: String,
    /// The task's headline number.
    pub metric: Metric,
    /// What "right" means, where the task has several rules.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// Problems asked.
    pub problems: usize,
    /// Groups of problems that make one unit, where that is another number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    /// Share of right greedy answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Its 95 % Wilson interval over groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// Its standard error over groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<f64>,
    /// Share of right greedy answers by each rule (of sampled ones where there are no greedy ones).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_rule: BTreeMap<String, f64>,
    /// Mean share of right samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_accuracy: Option<f64>,
    /// Its standard error over groups: the samples of a problem are no independent problems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_stderr: Option<f64>,
    /// Its 95 % interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_interval: Option<(f64, f64)>,
    /// The task's own measures.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, Measured>,
    /// Unbiased pass@k over the samples of a group.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pass_at_k: BTreeMap<usize, f64>,
    /// Unbiased pass@k over the greedy answers to the prompts of a group.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub greedy_pass_at_k: BTreeMap<usize, f64>,
    /// Share of problems whose most frequent answer is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub majority: Option<f64>,
    /// Share of problems whose sample with the largest reward is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_of_n: Option<f64>,
    /// The measures of those samples.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub best_of_n_measures: BTreeMap<String, f64>,
    /// Share of problems whose answer with the largest sum of rewards is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_vote: Option<f64>,
    /// Answers without a verdict because something failed; they count as wrong.
    pub errors: usize,
    /// Answers that the sandbox could not judge; they count as wrong.
    pub undecided: usize,
    /// Answers that the reward model could not score; their reward is 0.
    pub unscored: usize,
    /// Answers that ran into the token limit.
    pub cut: usize,
    /// The sandbox's classes, over all answers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub verdicts: BTreeMap<String, usize>,
    /// Tokens of greedy answers.
    pub greedy_tokens: u64,
    /// Tokens of samples.
    pub sampled_tokens: u64,
    /// How it was done.
    pub settings: EvaluateSettings,
}

/// A measure's mean over greedy answers and over samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Over greedy answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub greedy: Option<f64>,
    /// Over samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled: Option<f64>,
    /// Standard error of the latter over groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_stderr: Option<f64>,
}

/// Mean over groups of a value that each answer has or lacks.
pub(super) fn mean<'a>(
    groups: &[Vec<&'a Answers>],
    pick: &dyn Fn(&'a Answers, &mut Vec<f64>),
) -> Option<Mean> {
    let values: Vec<Vec<f64>> = groups
        .iter()
        .map(|group| {
            let mut values = Vec::new();
            group.iter().for_each(|answers| pick(answers, &mut values));
            values
        })
        .collect();
    clustered(values.iter().map(Vec::as_slice))
}

fn right(answer: &Answer) -> f64 {
    f64::from(u8::from(answer.judged.passed))
}

/// A share over problems that all have it; `None` where one lacks it.
fn share(answers: &[Answers], pick: &dyn Fn(&Answers) -> Option<bool>) -> Option<f64> {
    let each: Option<Vec<bool>> = answers.iter().map(pick).collect();
    let each = each.filter(|each| !each.is_empty())?;
    Some(each.iter().filter(|right| **right).count() as f64 / each.len() as f64)
}

impl Evaluation {
    /// Problems that make one unit, in order of their first one.
    pub(super) fn groups(&self) -> Vec<Vec<&Answers>> {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut groups: Vec<Vec<&Answers>> = Vec::new();
        for answers in &self.answers {
            let place = *places.entry(&answers.group).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Vec::new());
            }
            groups[place].push(answers);
        }
        groups
    }

    /// Names of the task's measures.
    pub(super) fn measure_names(&self) -> BTreeSet<&str> {
        let all = self.answers.iter().flat_map(Answers::all);
        all.flat_map(|answer| answer.measures.keys().map(String::as_str)).collect()
    }

    /// The numbers.
    pub fn summary(&self) -> Summary {
        let groups = self.groups();
        let all = || self.answers.iter().flat_map(Answers::all);
        let greedy = mean(&groups, &|answers, values| values.extend(answers.greedy.iter().map(right)));
        let sampled = mean(&groups, &|answers, values| values.extend(answers.samples.iter().map(right)));
        let grouped = groups.len() != self.answers.len();
        let per_group = |pick: &dyn Fn(&Answers) -> (usize, usize)| -> Vec<(usize, usize)> {
            let add = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
            groups.iter().map(|group| group.iter().map(|a| pick(a)).fold((0, 0), add)).collect()
        };
        let of_samples =
            per_group(&|a| (a.samples.len(), a.samples.iter().filter(|sample| sample.judged.passed).count()));
        let of_greedy = per_group(&|a| {
            let passed = a.greedy.as_ref().map(|answer| answer.judged.passed);
            (usize::from(passed.is_some()), usize::from(passed == Some(true)))
        });
        let pass_at_k = |problems: &[(usize, usize)]| -> BTreeMap<usize, f64> {
            let ks = self.settings.ks.iter();
            ks.filter_map(|k| Some((*k, mean_pass_at_k(problems, *k)?))).collect()
        };
        let has_answers = all().any(|answer| answer.judged.answer.is_some());
        let best: Option<Vec<&Answer>> = self.answers.iter().map(Answers::best).collect();
        let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
        for verdict in all().filter_map(|answer| answer.judged.verdict) {
            *verdicts.entry(verdict.name().to_owned()).or_default() += 1;
        }
        Summary {
            task: self.task.clone(),
            metric: self.metric,
            rule: self.rule.clone(),
            problems: self.answers.len(),
            groups: grouped.then_some(groups.len()),
            accuracy: greedy.map(|mean| mean.value),
            interval: greedy.map(|mean| wilson(mean.value, groups.len() as f64)),
            stderr: greedy.map(|mean| mean.error),
            by_rule: self.by_rule(&groups, greedy.is_some()),
            sampled_accuracy: sampled.map(|mean| mean.value),
            sampled_stderr: sampled.map(|mean| mean.error),
            sampled_interval: sampled.map(Mean::interval),
            measures: self
                .measure_names()
                .into_iter()
                .map(|name| (name.to_owned(), measured(&groups, name)))
                .collect(),
            pass_at_k: pass_at_k(&of_samples),
            greedy_pass_at_k: match grouped || self.metric == Metric::PassAtK {
                true => pass_at_k(&of_greedy),
                false => BTreeMap::new(),
            },
            majority: share(&self.answers, &Answers::majority).filter(|_| has_answers),
            best_of_n: share(&self.answers, &|a| a.best().map(|best| best.judged.passed)),
            best_of_n_measures: self.best_measures(best.as_deref().unwrap_or_default()),
            reward_vote: share(&self.answers, &Answers::reward_vote).filter(|_| has_answers),
            errors: all().filter(|answer| answer.error.is_some()).count(),
            undecided: all().filter(|answer| answer.undecided()).count(),
            unscored: all().filter(|answer| answer.unscored.is_some()).count(),
            cut: all().filter(|answer| answer.cut).count(),
            verdicts,
            greedy_tokens: self.answers.iter().filter_map(|a| Some(a.greedy.as_ref()?.tokens)).sum(),
            sampled_tokens: self.answers.iter().flat_map(|a| &a.samples).map(|sample| sample.tokens).sum(),
            settings: self.settings.clone(),
        }
    }

    fn by_rule(&self, groups: &[Vec<&Answers>], greedy: bool) -> BTreeMap<String, f64> {
        let all = self.answers.iter().flat_map(Answers::all);
        let names: BTreeSet<&String> = all.flat_map(|answer| answer.judged.by_rule.keys()).collect();
        let share = |name: &String| {
            let says = |answer: &Answer| f64::from(u8::from(answer.judged.by_rule.get(name) == Some(&true)));
            mean(groups, &|answers, values| match greedy {
                true => values.extend(answers.greedy.iter().map(says)),
                false => values.extend(answers.samples.iter().map(says)),
            })
        };
        names.into_iter().filter_map(|name| Some((name.clone(), share(name)?.value))).collect()
    }

    fn best_measures(&self, best: &[&Answer]) -> BTreeMap<String, f64> {
        let of = |name: &str| {
            let values: Vec<f64> = best.iter().filter_map(|answer| answer.measure(name)).collect();
            clustered(values.chunks(1)).map(|mean| mean.value)
        };
        self.measure_names().into_iter().filter_map(|name| Some((name.to_owned(), of(name)?))).collect()
    }
}

fn measured(groups: &[Vec<&Answers>], name: &str) -> Measured {
    let greedy =
        mean(groups, &|a, values| values.extend(a.greedy.iter().filter_map(|answer| answer.measure(name))));
    let sampled =
        mean(groups, &|a, values| values.extend(a.samples.iter().filter_map(|answer| answer.measure(name))));
    Measured {
        greedy: greedy.map(|mean| mean.value),
        sampled: sampled.map(|mean| mean.value),
        sampled_stderr: sampled.map(|mean| mean.error),
    }
}
