//! GSM8K: grade-school word problems with a numeric answer (Cobbe et al., 2021).
//!
//! - **Data**: `gsm8k/{train,test}.jsonl`, `{question, answer}`; the answer's last line is `#### n`.
//! - **Prompt**: the paper's instruction form (its scripts spell "Let't"; we write "Let's").
//! - **Steps**: lines; the final `The answer is n` is no step.
//! - **Answer**: rules `sipf` (default), `strict`, `flexible` of [`crate::math::number`].
//! - **Verdict**: the number after `The answer is`.
//! - **Reference**: the published solution with `The answer is n` in place of `#### n`.

use sipf_plugin::prelude::*;

use crate::math::{equation, number};

/// The task `gsm8k`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Gsm8k;

/// The prompt of math tasks, by reader.
pub(crate) fn math_prompt(question: &str, role: Role) -> String {
    match role {
        Role::Simulator => {
            format!("{question}\nPlease reason step by step, and put your final answer within \\boxed{{}}.\n")
        }
        Role::FewShot => format!("Q: {question}\nA: "),
        _ => include_str!("../prompts/math_policy.txt").replace("{question}", question),
    }
}

/// Lines, but for the one that states the answer; one chunk each.
pub(crate) fn math_steps(completion: &str) -> Vec<Step> {
    text::lines(completion)
        .filter(|(start, end)| !number::is_answer_line(&completion[*start..*end]))
        .enumerate()
        .map(|(chunk, (start, end))| Step { start, end, chunk: chunk as u32 })
        .collect()
}

/// The text up to and with the line that states the answer.
pub(crate) fn math_clean(raw: &str) -> String {
    let end =
        raw.find("The answer is").map_or(raw.len(), |at| raw[at..].find('\n').map_or(raw.len(), |n| at + n));
    raw[..end].trim_end().to_owned()
}

fn published(split: Split) -> Published {
    Published {
        repository: "openai/gsm8k".into(),
        revision: "main".into(),
        path: format!("main/{split}-00000-of-00001.parquet"),
        format: DataFormat::Parquet,
        sha256: None,
    }
}

impl Task for Gsm8k {
    fn card(&self) -> TaskCard {
        TaskCard::new("gsm8k", Domain::Math)
            .summary("grade-school word problems with a numeric answer")
            .rules(number::RULES)
            .stop(["\nQ:", "\n### "])
            .transfer(["mmlu-math"])
            .equation_filter("both")
            .runs_with("google/gemma-2b", "prm-deepseek", "gsm8k-gemma-2b")
    }

    fn source(&self, split: Split) -> Result<Source> {
        Ok(match split {
            Split::Train | Split::Test => {
                Source::files([DataFile::new(format!("gsm8k/{split}.jsonl"), DataFormat::Jsonl)
                    .published(published(split))])
            }
            _ => Source::Missing,
        })
    }

    fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>> {
        let (steps, answer) =
            row.text("answer")?.rsplit_once("####").context("key \"answer\" has no #### line")?;
        let answer = number::normal(answer).context(format!("{answer:?} is no number"))?;
        Ok(vec![
            Problem::new(format!("gsm8k/{split}/{}", row.index), row.text("question")?)
                .solution(format!("{}\nThe answer is {answer}", steps.trim_end()))
                .answer(answer),
        ])
    }

    fn prompt(&self, problem: &Problem, role: Role) -> Result<String> {
        Ok(math_prompt(&problem.question, role))
    }

    fn clean(&self, _: &Problem, raw: &str) -> Result<String> {
        Ok(math_clean(raw))
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        Ok(math_steps(completion))
    }

    fn answer(&self, completion: &str) -> Result<Option<String>> {
        Ok(number::sipf(completion))
    }

    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        Ok(number::judge(completion, problem.answer.as_deref()))
    }

    fn signature(&self, _: &Problem, completion: &str) -> Result<Signature> {
        Ok(equation::signature(completion))
    }

    fn shots(&self) -> Result<Vec<Problem>> {
        let mut shots = Vec::new();
        for row in crate::fixture_rows(include_str!("../prompts/math_shots.jsonl"))? {
            shots.extend(self.problems(&row, Split::Train)?);
        }
        Ok(shots)
    }

    fn fixtures(&self) -> Result<Vec<Row>> {
        crate::fixture_rows(include_str!("../fixtures/gsm8k.jsonl"))
    }
}
