//! One question while paths of it are drawn: attempts are taken in the order of their numbers, until the quotas are met.

use sipf_plugin::{Problem, Signature, Step, Task};

use super::dedup::{self, Offer, Shelf};
use super::quota::Quota;
use super::settings::EquationFilter;
use crate::Result;
use crate::error::per_row;
use crate::record::Sample;
use crate::verify::Judged;

/// An attempt whose completion is cleaned and judged; `Err`: a plugin failed on it.
pub(super) struct Attempt {
    pub(super) completion: String,
    pub(super) tokens: u64,
    pub(super) judged: std::result::Result<Judged, String>,
}

/// A question and what was drawn of it up to now.
pub(super) struct Question<'a> {
    pub(super) problem: &'a Problem,
    pub(super) prompt: String,
    pub(super) ids: Vec<u32>,
    pub(super) rows: Vec<Sample>,
    /// Tokens drawn, those of attempts behind the stopping point included.
    pub(super) tokens: u64,
    iteration: u64,
    quota: Quota,
    filter: EquationFilter,
    /// The task could not write a prompt: nothing is drawn.
    closed: bool,
    right: Shelf,
    wrong: Shelf,
}

impl<'a> Question<'a> {
    pub(super) fn new(problem: &'a Problem, iteration: u64, quota: Quota, filter: EquationFilter) -> Self {
        Self {
            problem,
            prompt: String::new(),
            ids: Vec::new(),
            rows: Vec::new(),
            tokens: 0,
            iteration,
            quota,
            filter,
            closed: false,
            right: Shelf::default(),
            wrong: Shelf::default(),
        }
    }

    /// Remembers a path that an earlier iteration kept.
    pub(super) fn remember(&mut self, task: &dyn Task, sample: &Sample) -> Result<()> {
        if let Ok(signature) = per_row(task.signature(self.problem, &sample.completion).map_err(Into::into))?
        {
            self.shelf(sample.passed).put(&sample.id, &signature, true);
        }
        Ok(())
    }

    /// The numbers of the next attempts.
    pub(super) fn next(&self, wave: usize, max_attempts: usize) -> std::ops::Range<u64> {
        let from = self.rows.len();
        let to = if self.is_done() { from } else { (from + wave).min(max_attempts).max(from) };
        from as u64..to as u64
    }

    fn is_done(&self) -> bool {
        let (right, wrong) = (self.right.fresh(), self.wrong.fresh());
        self.closed || (right >= self.quota.positives && wrong >= self.quota.negatives)
    }

    /// A question that cannot be asked: one row says why.
    pub(super) fn close(&mut self, why: String) {
        let row = Sample { dropped_because: Some(format!("failed: {why}")), ..self.row() };
        self.rows.push(row);
        self.closed = true;
    }

    /// Takes the next attempt; one behind the stopping point leaves no trace.
    pub(super) fn take(&mut self, task: &dyn Task, attempt: Attempt) -> Result<()> {
        self.tokens += attempt.tokens;
        if self.is_done() {
            return Ok(());
        }
        let mut row = Sample { completion: attempt.completion, tokens: attempt.tokens, ..self.row() };
        match self.fate(task, &mut row, attempt.judged)? {
            Ok(()) => row.kept = true,
            Err(why) => row.dropped_because = Some(why),
        }
        self.rows.push(row);
        Ok(())
    }

    /// Fills in what the verdict and the task say of a row, and decides whether it is kept.
    fn fate(
        &mut self,
        task: &dyn Task,
        row: &mut Sample,
        judged: std::result::Result<Judged, String>,
    ) -> Result<std::result::Result<(), String>> {
        let judged = match judged {
            Ok(judged) => judged,
            Err(error) => return Ok(Err(format!("failed: {error}"))),
        };
        row.passed = judged.passed;
        row.by_rule = judged.by_rule;
        row.answer = judged.answer;
        row.verdict = judged.verdict;
        row.message = judged.message;
        if judged.undecided {
            let class = row.verdict.map(|class| class.to_string()).unwrap_or_default();
            return Ok(Err(format!("no verdict: {}", row.message.as_ref().unwrap_or(&class))));
        }
        let read = task.steps(self.problem, &row.completion);
        let read = read.and_then(|steps| Ok((steps, task.signature(self.problem, &row.completion)?)));
        let (steps, signature) = match per_row(read.map_err(Into::into))? {
            Ok((steps, signature)) => (steps, signature),
            Err(error) => return Ok(Err(format!("failed: {error}"))),
        };
        if let Err(error) = fits(&row.completion, &steps) {
            return Ok(Err(format!("failed: {error}")));
        }
        row.steps = steps;
        row.flaw = dedup::flaw(&signature).map(str::to_owned);
        if let Some(flaw) = row.flaw.as_ref().filter(|_| self.filter == EquationFilter::Both) {
            return Ok(Err(flaw.clone()));
        }
        Ok(self.keep(row, &signature))
    }

    fn keep(&mut self, row: &Sample, signature: &Signature) -> std::result::Result<(), String> {
        let quota = if row.passed { self.quota.positives } else { self.quota.negatives };
        let shelf = self.shelf(row.passed);
        match shelf.offer(signature) {
            Offer::Dropped(why) => Err(why),
            Offer::Duplicate(twin) => Err(format!("duplicate of {twin}")),
            Offer::New if shelf.fresh() >= quota => Err("quota".into()),
            Offer::New => {
                shelf.put(&row.id, signature, false);
                Ok(())
            }
            Offer::Replaces(gone) => {
                shelf.replace(&gone, &row.id, signature);
                if let Some(gone) = self.rows.iter_mut().find(|row| row.id == gone) {
                    gone.kept = false;
                    gone.dropped_because = Some(format!("duplicate of {}", row.id));
                }
                Ok(())
            }
        }
    }

    fn shelf(&mut self, passed: bool) -> &mut Shelf {
        if passed { &mut self.right } else { &mut self.wrong }
    }

    /// The next row, with nothing known of it but what was asked.
    fn row(&self) -> Sample {
        let index = self.rows.len() as u64;
        Sample {
            id: format!("{}#{}.{index}", self.problem.id, self.iteration),
            problem: self.problem.id.clone(),
            iteration: self.iteration,
            index,
            prompt: self.prompt.clone(),
            question: bare_question(self.problem),
            ..Sample::default()
        }
    }
}

/// The question, unless the task keeps a prompt of its own with the problem (`extra.asked`), which reward models read
/// instead.
pub(crate) fn bare_question(problem: &Problem) -> Option<String> {
    let kept = problem.extra.get("asked").is_some_and(serde_json::Value::is_string);
    (!kept).then(|| problem.question.clone())
}

/// Whether all steps lie in the completion, on borders of characters.
fn fits(completion: &str, steps: &[Step]) -> std::result::Result<(), String> {
    match steps.iter().find(|step| completion.get(step.start..step.end).is_none()) {
        None => Ok(()),
        Some(step) => Err(format!(
            "step {}..{} lies outside the completion of {} bytes",
            step.start,
            step.end,
            completion.len()
        )),
    }
}
