//! One path while its steps are labelled, and the rows that come of it.

use sipf_plugin::{Problem, Role, Step, Task};

use super::chunk::{Chunk, chunks};
use super::select::Path;
use super::settings::SimulateSettings;
use super::tally::Tally;
use crate::error::per_row;
use crate::model::Tokenizer;
use crate::record::{Label, LabelledStep, Sample, StepLabels};
use crate::sample::bare_question;
use crate::{Error, Result};

/// The simulator's name in rows of reference solutions.
pub const GOLD: &str = "gold";
/// The same in rows that copy the outcome to every step.
pub const OUTCOME: &str = "outcome";

/// A drawn path, chunk by chunk.
pub(super) struct Labelling<'a> {
    pub(super) problem: &'a Problem,
    pub(super) sample: &'a Sample,
    pub(super) starts: Vec<Start>,
    pub(super) tokens: u64,
}

/// Where the rollouts of a chunk begin.
pub(super) struct Start {
    pub(super) chunk: Chunk,
    /// Prompt and the part of the completion that is given, as one text.
    pub(super) ids: Vec<u32>,
    pub(super) tally: Tally,
}

impl<'a> Labelling<'a> {
    /// Writes the prompts. `Ok(Err)`: the task could not, and why.
    pub(super) fn open(
        problem: &'a Problem,
        sample: &'a Sample,
        task: &dyn Task,
        tokenizer: &Tokenizer,
        settings: &SimulateSettings,
    ) -> Result<std::result::Result<Self, String>> {
        sample.step_texts()?;
        let prompt = match per_row(task.prompt(problem, Role::Simulator).map_err(Error::from))? {
            Ok(prompt) => prompt,
            Err(error) => return Ok(Err(error)),
        };
        let mut starts = Vec::new();
        for chunk in chunks(&sample.completion, &sample.steps) {
            // Prompt and prefix are tokenised as one text, as the simulator's own text would have been: pieces tokenised
            // apart need not meet at a token's border. The tokens before the last step are those of the shorter
            // prefixes, which the engine therefore computes once.
            let ids = tokenizer.encode(&format!("{prompt}{}", &sample.completion[..chunk.end]), true)?;
            starts.push(Start { chunk, ids, tally: Tally::new(settings) });
        }
        Ok(Ok(Self { problem, sample, starts, tokens: 0 }))
    }

    /// The row; `None` where a step got no verdict from any rollout.
    pub(super) fn row(&self, simulator: &str, settings: &SimulateSettings) -> Result<Option<StepLabels>> {
        let mut labelled = Vec::with_capacity(self.sample.steps.len());
        let mut labels = Vec::with_capacity(self.sample.steps.len());
        for step in &self.sample.steps {
            let start = self.starts.iter().find(|start| start.chunk.number == step.chunk);
            let Some(tally) = start.map(|start| start.tally).filter(Tally::is_known) else { return Ok(None) };
            labels.push(tally.label(settings.soft_labels));
            labelled.push(tally.step(step, settings.soft_labels));
        }
        Ok(Some(StepLabels {
            sample: self.sample.id.clone(),
            completions: self.sample.step_texts()?.into_iter().map(str::to_owned).collect(),
            labels,
            simulator: simulator.to_owned(),
            k: settings.rollouts,
            steps: labelled,
            ..asked(self.problem)
        }))
    }
}

/// A row with what the reward model is asked.
fn asked(problem: &Problem) -> StepLabels {
    let question = bare_question(problem);
    let kept = problem.extra.get("asked").and_then(serde_json::Value::as_str);
    let prompt = kept.unwrap_or(&problem.question).to_owned();
    StepLabels { problem: problem.id.clone(), prompt, question, ..StepLabels::default() }
}

/// Every step of a completion with one label and no rollouts.
fn copied(problem: &Problem, completion: &str, steps: &[Step], right: bool) -> Result<StepLabels> {
    let path = Sample { completion: completion.to_owned(), steps: steps.to_vec(), ..Sample::default() };
    let share = Label::Hard(right).value();
    let (low, high) = (f64::from(share), f64::from(share));
    let labelled = |step: &Step| {
        let Step { start, end, chunk } = *step;
        LabelledStep { start, end, chunk, label: share, low, high, ..LabelledStep::default() }
    };
    Ok(StepLabels {
        completions: path.step_texts()?.into_iter().map(str::to_owned).collect(),
        labels: vec![Label::Hard(right); steps.len()],
        steps: steps.iter().map(labelled).collect(),
        ..asked(problem)
    })
}

/// The row of a reference solution: all steps are right. `Ok(Err)`: the task could not name its steps.
pub(super) fn gold(problem: &Problem, task: &dyn Task) -> Result<std::result::Result<StepLabels, String>> {
    let solution = problem.solution.as_deref().unwrap_or_default();
    let steps = match per_row(task.steps(problem, solution).map_err(Error::from))? {
        Ok(steps) => steps,
        Err(error) => return Ok(Err(error)),
    };
    let row = copied(problem, solution, &steps, true)?;
    Ok(Ok(StepLabels { sample: format!("{}#gold", problem.id), simulator: GOLD.into(), ..row }))
}

/// Rows for an outcome reward model: every step of a path has the outcome's label.
///
/// # Errors
/// When a step lies outside its completion.
pub fn by_outcome(paths: &[Path<'_>], task: &dyn Task) -> Result<Vec<StepLabels>> {
    let mut rows = Vec::with_capacity(paths.len());
    for path in paths {
        match path {
            Path::Gold { problem } => rows.extend(gold(problem, task)?.ok()),
            Path::Drawn { problem, sample } => {
                let row = copied(problem, &sample.completion, &sample.steps, sample.passed)?;
                rows.push(StepLabels { sample: sample.id.clone(), simulator: OUTCOME.into(), ..row });
            }
        }
    }
    Ok(rows)
}
