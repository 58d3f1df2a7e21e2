//! The problems of a run: what the policy learns from, what the loop asks, what every evaluation asks.

use std::collections::BTreeMap;
use std::path::Path;

use sipf_plugin::{Problem, Role, Source, Split, Task};

use super::Parts;
use crate::align::SftRow;
use crate::config::RunConfig;
use crate::dataset::{self, DataOptions};
use crate::run_dir::hash_rows;
use crate::{Error, Result};

/// The problems of one task's evaluation.
#[derive(Debug, Clone, Default)]
pub(super) struct Exam {
    pub(super) problems: Vec<Problem>,
    pub(super) hash: String,
}

/// Every problem of a run.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// What supervised training takes.
    pub(super) demonstrations: Vec<SftRow>,
    pub(super) demonstrations_hash: String,
    /// What the loop asks.
    pub(super) questions: Vec<Problem>,
    pub(super) questions_hash: String,
    /// By task, the run's own first.
    pub(super) exams: Vec<Exam>,
}

impl Data {
    /// Loads the problems of the run's task and of its transfer tasks.
    ///
    /// # Errors
    /// When a split cannot be loaded, or too few problems are left for the loop.
    pub(super) fn load(config: &RunConfig, parts: &Parts) -> Result<Self> {
        let task = &*parts.task;
        let name = task.card().name;
        let endless =
            matches!(task.source(Split::Train)?, Source::Generated) && !is_file(parts.data.as_deref());
        // Only an endless split has room for questions beside the demonstrations.
        let skip = if endless { config.skip } else { 0 };
        let questions_wanted = match (endless, config.limit) {
            (true, 0) => {
                return Err(Error::unusable(format!(
                    "the train split of {name} is endless: say how many questions with --limit"
                )));
            }
            (_, limit) => limit,
        };
        let rows_wanted = match (config.sft.enabled, endless, config.sft.rows) {
            (false, ..) => Some(0),
            (true, true, 0) => {
                return Err(Error::unusable(format!(
                    "the train split of {name} is endless: say how many demonstrations with sft.rows or --limit"
                )));
            }
            (true, _, 0) => None,
            (true, _, rows) => Some(rows),
        };
        let most = match (rows_wanted, questions_wanted) {
            (None, _) | (_, 0) => None,
            (Some(rows), questions) => Some(rows.max(skip + questions)),
        };
        let train = load(parts, task, Split::Train, most)?;
        let demonstrations = rows(task, train.iter().take(rows_wanted.unwrap_or(usize::MAX)))?;
        let questions: Vec<Problem> = train
            .iter()
            .skip(skip)
            .take(if questions_wanted == 0 { usize::MAX } else { questions_wanted })
            .cloned()
            .collect();
        if questions.is_empty() {
            return Err(Error::unusable(format!("task {name} has no train problems for the loop")));
        }
        let texts: Vec<(&str, &str)> =
            demonstrations.iter().map(|row| (row.prompt.as_str(), row.completion.as_str())).collect();
        let mut data = Self {
            demonstrations_hash: hash_rows(&texts)?,
            demonstrations,
            questions_hash: hash_rows(&questions)?,
            questions,
            exams: Vec::new(),
        };
        let evaluate = &config.evaluate;
        let limits = std::iter::once(evaluate.problems).chain(std::iter::repeat(evaluate.transfer_problems));
        for (task, limit) in std::iter::once(&parts.task).chain(&parts.transfer).zip(limits) {
            let problems = load(parts, &**task, Split::Test, (limit > 0).then_some(limit))?;
            data.exams.push(Exam { hash: hash_rows(&problems)?, problems });
        }
        Ok(data)
    }

    /// The loop's questions by id.
    pub(super) fn by_id(&self) -> BTreeMap<&str, &Problem> {
        self.questions.iter().map(|problem| (problem.id.as_str(), problem)).collect()
    }
}

fn is_file(path: Option<&Path>) -> bool {
    path.is_some_and(Path::is_file)
}

fn load(parts: &Parts, task: &dyn Task, split: Split, limit: Option<usize>) -> Result<Vec<Problem>> {
    let options = DataOptions { data: parts.data.clone(), limit, skip_bad_rows: false };
    Ok(dataset::load(task, split, &options)?.problems)
}

/// What supervised training reads: the policy's prompt, and the demonstration or else the reference.
fn rows<'a>(task: &dyn Task, problems: impl Iterator<Item = &'a Problem>) -> Result<Vec<SftRow>> {
    let mut rows = Vec::new();
    for problem in problems {
        if let Some(completion) = problem.demonstration_or_solution() {
            let prompt = task.prompt(problem, Role::Policy)?;
            rows.push(SftRow {
                prompt,
                completion: completion.to_owned(),
                place: problem.id.clone(),
                ..SftRow::default()
            });
        }
    }
    Ok(rows)
}
