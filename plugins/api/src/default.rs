//! What the host does where a plugin does not say: the traits' default bodies and the answer to an unknown call.

use crate::card::RewardCard;
use crate::check::{Outcome, RunVerdict, Verdict};
use crate::error::{Error, Result};
use crate::layout::{Piece, Step};
use crate::problem::{Problem, Row, Source, Split};
use crate::signature::Signature;
use crate::task::Task;

/// How many rows of a generated split stand in for fixtures.
pub const FIXTURE_ROWS: u64 = 8;

/// Generated rows for training and test, no validation split.
///
/// # Errors
/// Never.
pub fn source(split: Split) -> Result<Source> {
    Ok(match split {
        Split::Train | Split::Test => Source::Generated,
        Split::Validation => Source::Missing,
    })
}

/// No generated rows.
///
/// # Errors
/// Always.
pub fn generate(split: Split, index: u64) -> Result<Row> {
    Err(Error::new(format!("this task does not generate rows (row {index} of {split} was asked for)")))
}

/// Passed when every test passed.
///
/// # Errors
/// Never.
pub fn judge(outcome: &Outcome) -> Result<Verdict> {
    let passed = outcome.verdict == RunVerdict::Passed;
    let message = match outcome.explanation() {
        _ if passed => None,
        Some(text) => Some(format!("{}: {text}", outcome.verdict)),
        None => Some(outcome.verdict.to_string()),
    };
    Ok(Verdict { passed, message, ..Verdict::default() })
}

/// The text without trailing white space.
///
/// # Errors
/// Never.
pub fn clean(raw: &str) -> Result<String> {
    Ok(raw.trim_end().to_owned())
}

/// Non-empty lines, without the white space around them, each its own chunk.
///
/// # Errors
/// Never.
pub fn steps(completion: &str) -> Result<Vec<Step>> {
    Ok(crate::text::lines(completion)
        .enumerate()
        .map(|(chunk, (start, end))| Step { start, end, chunk: chunk as u32 })
        .collect())
}

/// The text itself.
///
/// # Errors
/// Never.
pub fn signature(completion: &str) -> Result<Signature> {
    Ok(Signature::exact(completion))
}

/// The first rows of a generated split.
///
/// # Errors
/// When rows cannot be generated, or come from files: then the task has to embed a few.
pub fn fixtures<T: Task + ?Sized>(task: &T) -> Result<Vec<Row>> {
    match task.source(Split::Train)? {
        Source::Generated => (0..FIXTURE_ROWS).map(|index| task.generate(Split::Train, index)).collect(),
        _ => Err(Error::new("a task that reads files must embed a few rows: implement `fixtures`")),
    }
}

/// The question, then every step followed by the marker.
///
/// # Errors
/// Never.
pub fn layout(problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
    let mut pieces = vec![Piece::text(problem.question.clone())];
    for step in steps {
        pieces.push(Piece::text(*step));
        pieces.push(Piece::Marker);
    }
    Ok(pieces)
}

/// What the card says.
///
/// # Errors
/// When a score is not finite.
pub fn aggregate(card: &RewardCard, scores: &[f32]) -> Result<f32> {
    match scores.iter().position(|score| !score.is_finite()) {
        Some(step) => Err(Error::new(format!("the score of step {step} is not finite"))),
        None => Ok(card.aggregate.of(scores)),
    }
}
