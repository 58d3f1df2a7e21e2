//! `arith`: generated word problems whose wrong reasoning has true equations of a wrong plan; `arith-ood`: longer
//! ones in unseen phrases; `arith-drill`: plain number facts.
//!
//! - **Data**: none; an endless seeded generator. A question's own hash decides between train and test, so the splits
//!   cannot meet. Half the questions ask for a number, half for one of two answers (`chance` 0.5).
//! - **Prompt**: `Q: ...\nA:\n`.
//! - **Steps**: lines; the final `#### n` is no step.
//! - **Answer**: what follows `####`. Rules `sipf` (default: as a number, or the word itself), `strict` (the text right
//!   after the first `#### `), `flexible` (the last number, or the last of the two answers mentioned).
//! - **Verdict**: the answer. Whether every step is right by meaning is the measure `fully_right`; `step_truth` is for
//!   quality figures only.
//! - **Reference**: the right plan in one of many wordings. `demonstration` is noisy on purpose: each step that can be
//!   misread is with probability 0.35, each result is off with 0.02.

mod drill;
mod noise;
mod oracle;
mod plan;
mod story;
mod wording;

use sipf_plugin::prelude::*;

use crate::math::{equation, number};
use oracle::Truth;
use plan::Plan;
use story::Style;
use wording::Habit;

pub use drill::ArithDrill;

/// Generated word problems, in domain or out of it.
#[derive(Debug, Default, Clone, Copy)]
pub struct WordProblems<const OOD: bool>;

/// The task `arith`.
pub type Arith = WordProblems<false>;

/// The task `arith-ood`: longer chains, phrases that training never shows.
pub type ArithOod = WordProblems<true>;

impl<const OOD: bool> WordProblems<OOD> {
    const NAME: &'static str = if OOD { "arith-ood" } else { "arith" };
}

/// One question in so many is a test question.
const TEST_SHARE: u64 = 5;
/// Longest completion, in tokens of the bundled tokenizer; the longest reference has about 130.
const MAX_TOKENS: usize = 192;

fn card(name: &str, summary: &str) -> TaskCard {
    TaskCard::new(name, Domain::Math)
        .summary(summary)
        .rules(number::RULES)
        .stop(["\nQ:"])
        .max_tokens(MAX_TOKENS)
        .equation_filter("off")
        .bundles("strong", "tiny-strong")
        .runs_with("tiny", "prm-tiny", "tiny")
}

/// Lines and the answer line.
fn solution(lines: &[String], answer: &str) -> String {
    let mut text = lines.join("\n");
    text.push_str(if lines.is_empty() { "#### " } else { "\n#### " });
    text.push_str(answer);
    text
}

/// Whether a question belongs to the split.
fn belongs(question: &str, split: Split) -> bool {
    let test = random::key(question, 0) % TEST_SHARE == 0;
    test == (split == Split::Test)
}

fn row(name: &str, style: Style, split: Split, index: u64) -> Result<Row> {
    if !matches!(split, Split::Train | Split::Test) {
        return Err(Error::new(format!("task {name} has no {split} split, only: train, test")));
    }
    let stream = |purpose: &str| Stream::new(random::key(&format!("{name}/{split}/{purpose}"), index));
    let mut draw = stream("story");
    loop {
        let two_way = draw.chance(0.5);
        let (plan, outcome, answer) = loop {
            let plan = story::tell(&mut draw, style, two_way);
            let Some(outcome) = plan.work(&mut |result| result) else { continue };
            let Some(answer) = plan.conclude(&outcome, None) else { continue };
            break (plan, outcome, answer);
        };
        if !belongs(&plan.question, split) {
            continue;
        }
        let lines = wording::write(&mut stream("solution"), Habit::Steady, &plan, &outcome);
        return Ok(Row::new(index, keys(&plan, &outcome, &answer, &lines, &mut stream("demonstration"))?));
    }
}

fn keys(
    plan: &Plan,
    outcome: &plan::Outcome,
    answer: &str,
    lines: &[String],
    noise: &mut Stream,
) -> Result<Value> {
    Ok(json!({
        "question": plan.question,
        "answer": answer,
        "choices": plan.choices(),
        "solution": solution(lines, answer),
        "demonstration": noise::demonstration(plan, answer, noise),
        "truth": serde_json::to_value(Truth::of(plan, outcome))?,
    }))
}

/// The prompt, whoever reads it.
fn prompt(question: &str) -> String {
    format!("Q: {question}\nA:\n")
}

fn problem(name: &str, row: &Row, split: Split) -> Result<Problem> {
    let (question, choices) = (row.text("question")?, row.texts("choices")?);
    Ok(Problem::new(format!("{name}/{split}/{}", row.index), question)
        .answer(row.text("answer")?)
        .solution(row.text("solution")?)
        .demonstration(row.text("demonstration")?)
        .chance(if choices.is_empty() { 0.0 } else { 1.0 / choices.len() as f32 })
        .extra(json!({
            "asked": prompt(question),
            "choices": choices,
            "truth": row.data.get("truth").context("key \"truth\" is missing")?,
        })))
}

/// What follows the first `####` at the start of a line.
fn stated(completion: &str) -> Option<&str> {
    completion.lines().find_map(|line| line.strip_prefix("####")).map(str::trim)
}

/// The answer in normal form: a number, or the word itself.
fn normal(stated: &str) -> Option<String> {
    let numeric = stated.starts_with(|c: char| c.is_ascii_digit() || "+-.$".contains(c));
    let answer = if numeric { number::normal(stated) } else { Some(stated.to_owned()) };
    answer.filter(|answer| !answer.is_empty())
}

/// The last of the choices that stands in the text as a word.
fn last_mentioned(completion: &str, choices: &[String]) -> Option<String> {
    let mut words = completion.split(|c: char| !c.is_alphanumeric());
    words.rfind(|word| choices.iter().any(|choice| choice == word)).map(str::to_owned)
}

fn verify(problem: &Problem, completion: &str) -> Result<Check> {
    let choices = Row::new(0, problem.extra.clone()).texts("choices")?;
    let same = |text: Option<String>, truth: &str| {
        text.is_some_and(|text| number::comparable(&text) == number::comparable(truth))
    };
    let truth = problem.answer.as_deref().context("the problem has no answer")?;
    let answer = stated(completion).and_then(normal);
    let (strict, flexible) = match choices.is_empty() {
        true => (same(number::strict(completion), truth), same(number::flexible(completion), truth)),
        false => (
            completion.split_once("#### ").and_then(|(_, rest)| rest.split_whitespace().next())
                == Some(truth),
            last_mentioned(completion, &choices).as_deref() == Some(truth),
        ),
    };
    let right = answer.is_some() && answer == normal(truth);
    let by_rule = [right, strict, flexible];
    Ok(Check::Verdict(Verdict {
        passed: right,
        by_rule: number::RULES.iter().map(|rule| (*rule).to_owned()).zip(by_rule).collect(),
        message: answer.is_none().then(|| "no final answer found".to_owned()),
        answer,
    }))
}

/// For every step whether it and all before it are right, and whether the whole plan was carried out.
fn judge(problem: &Problem, completion: &str) -> Result<(Vec<bool>, bool)> {
    let truth = problem.extra.get("truth").context("the problem's extra data has no key \"truth\"")?;
    let truth: Truth = serde_json::from_value(truth.clone())?;
    Ok(truth.judge(steps(completion).iter().map(|step| &completion[step.start..step.end])))
}

fn steps(completion: &str) -> Vec<Step> {
    crate::math::path::steps(completion)
}

/// The text up to and with the answer line.
fn clean(raw: &str) -> &str {
    let mut end = 0;
    for line in raw.split_inclusive('\n') {
        end += line.len();
        if line.starts_with("####") {
            break;
        }
    }
    raw[..end].trim_end()
}

/// The text itself is the path's key; a false equation is marked for the host's filter, which is off by default.
fn signature(completion: &str) -> Signature {
    let flaw = equation::bodies(completion)
        .into_iter()
        .find(|body| equation::holds(body) != Some(true))
        .map(|body| format!("<<{body}>> is not true"));
    Signature::key(completion, completion).flawed(flaw)
}

impl<const OOD: bool> Task for WordProblems<OOD> {
    fn card(&self) -> TaskCard {
        let summary = match OOD {
            false => "generated word problems with a noisy teacher, judged step by step (no download)",
            true => "longer arith problems in unseen phrases (no download)",
        };
        let transfer: &[&str] = if OOD { &[] } else { &["arith-ood"] };
        card(Self::NAME, summary).transfer(transfer.iter().copied())
    }

    fn source(&self, split: Split) -> Result<Source> {
        Ok(match split {
            Split::Train | Split::Test => Source::Generated,
            _ => Source::Missing,
        })
    }

    fn generate(&self, split: Split, index: u64) -> Result<Row> {
        row(Self::NAME, if OOD { Style::Unseen } else { Style::Seen }, split, index)
    }

    fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>> {
        Ok(vec![problem(Self::NAME, row, split)?])
    }

    fn prompt(&self, problem: &Problem, _: Role) -> Result<String> {
        Ok(prompt(&problem.question))
    }

    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        verify(problem, completion)
    }

    fn clean(&self, _: &Problem, raw: &str) -> Result<String> {
        Ok(clean(raw).to_owned())
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        Ok(steps(completion))
    }

    fn answer(&self, completion: &str) -> Result<Option<String>> {
        Ok(stated(completion).and_then(normal))
    }

    fn signature(&self, _: &Problem, completion: &str) -> Result<Signature> {
        Ok(signature(completion))
    }

    fn measure(&self, problem: &Problem, completion: &str, verdict: &Verdict) -> Result<Vec<Measure>> {
        let (_, complete) = judge(problem, completion)?;
        let value = f64::from(u8::from(verdict.passed && complete));
        Ok(vec![Measure { name: "fully_right".into(), value }])
    }

    fn step_truth(&self, problem: &Problem, completion: &str) -> Result<Option<Vec<bool>>> {
        Ok(Some(judge(problem, completion)?.0))
    }
}

#[cfg(test)]
mod tests;
