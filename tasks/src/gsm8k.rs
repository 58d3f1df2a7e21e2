//! GSM8K: grade-school word problems with a numeric answer (Cobbe et al., 2021).
//!
//! - **Data**: `gsm8k/{train,test}.jsonl`, `{question, answer}`; the answer's last line is `#### n`.
//! - **Prompt**: the paper's instruction form (its scripts spell "Let't"; we write "Let's").
//! - **Steps**: lines; one that begins with `The answer is` or `####` is no step.
//! - **Answer**: rules `sipf` (default), `strict`, `flexible` of [`crate::math::number`].
//! - **Verdict**: the number after `The answer is`.
//! - **Reference**: the published solution with `The answer is n` in place of `#### n`.

use sipf_plugin::prelude::*;

use crate::math::{equation, number, path};

/// The task `gsm8k`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Gsm8k;

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
        Ok(path::prompt(&problem.question, role))
    }

    fn clean(&self, _: &Problem, raw: &str) -> Result<String> {
        Ok(path::clean(raw))
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        Ok(path::steps(completion))
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
        for row in Row::jsonl(include_str!("../prompts/math_shots.jsonl"))? {
            shots.extend(self.problems(&row, Split::Train)?);
        }
        Ok(shots)
    }

    fn fixtures(&self) -> Result<Vec<Row>> {
        Row::jsonl(include_str!("../fixtures/gsm8k.jsonl"))
    }
}
