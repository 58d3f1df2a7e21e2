//! HumanEval: hand-written Python problems, judged by running their tests (Chen et al., 2021).
//!
//! - **Data**: `humaneval/HumanEval.jsonl`, 164 rows, split `test`.
//! - **Prompt**: reordered as in the paper so that it looks like MBPP's: description, examples as asserts, then the
//!   function's first line; a row whose docstring has no `>>>` examples shows its docstring whole.
//! - **Steps**: every non-empty line; rollouts start after coarser chunks ([`crate::code::steps`]).
//! - **Answer**: none; programs have no normal form.
//! - **Verdict**: `check(entry_point)` passes in the sandbox. The program is the completion where it defines the entry
//!   point, otherwise prompt + completion.
//! - **Reference**: prompt + canonical solution.

use sipf_plugin::prelude::*;

use crate::code::docstring::{docstring, reordered};
use crate::code::{python, steps};
use crate::mbpp::code_prompt;

/// The task `humaneval`.
#[derive(Debug, Default, Clone, Copy)]
pub struct HumanEval;

fn published() -> Published {
    Published {
        repository: "openai/openai_humaneval".into(),
        revision: "main".into(),
        path: "openai_humaneval/test-00000-of-00001.parquet".into(),
        format: DataFormat::Parquet,
        sha256: None,
    }
}

/// The prompt: description, examples and the function's first line, in the shape of MBPP's.
fn asked(question: &str, prompt: &str, entry: &str) -> String {
    let (description, tests) = reordered(question);
    let first_line =
        prompt.lines().rfind(|line| line.starts_with(&format!("def {entry}("))).unwrap_or_default();
    let ask = format!("{description} The function begins with `{first_line}`.");
    match tests.is_empty() {
        true => format!("'''\n{ask}\n'''\n"),
        false => code_prompt(&ask, &tests),
    }
}

impl Task for HumanEval {
    fn card(&self) -> TaskCard {
        TaskCard::new("humaneval", Domain::Code)
            .summary("hand-written Python problems, judged by their tests in the sandbox")
            .metric(Metric::PassAtK)
            .temperature(0.7)
            .stop(python::stop_strings())
            .quotas(25, 25)
            .runs_with("google/gemma-2b", "prm-deepseek", "mbpp-gemma-2b")
    }

    fn source(&self, split: Split) -> Result<Source> {
        Ok(match split {
            Split::Test => Source::files([
                DataFile::new("humaneval/HumanEval.jsonl", DataFormat::Jsonl).published(published())
            ]),
            _ => Source::Missing,
        })
    }

    fn problems(&self, row: &Row, _: Split) -> Result<Vec<Problem>> {
        let (prompt, entry) = (row.text("prompt")?, row.text("entry_point")?);
        let number = row.text("task_id")?.rsplit('/').next().unwrap_or_default();
        let question = docstring(prompt).trim();
        let asked = asked(question, prompt, entry);
        let extra =
            json!({ "prompt": prompt, "entry_point": entry, "test": row.text("test")?, "asked": asked });
        Ok(vec![
            Problem::new(format!("humaneval/{number}"), question)
                .solution(format!("{prompt}{}", row.text("canonical_solution")?.trim_end()))
                .extra(extra),
        ])
    }

    fn prompt(&self, problem: &Problem, _: Role) -> Result<String> {
        Ok(Row::new(0, problem.extra.clone()).text("asked")?.to_owned())
    }

    fn clean(&self, _: &Problem, raw: &str) -> Result<String> {
        Ok(python::program(raw).to_owned())
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        Ok(steps::steps(completion))
    }

    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        let extra = Row::new(0, problem.extra.clone());
        let (prompt, entry, test) = (extra.text("prompt")?, extra.text("entry_point")?, extra.text("test")?);
        let source = match python::defines(completion, entry) {
            true => completion.to_owned(),
            false => format!("{prompt}{completion}"),
        };
        let test = format!("{test}\ncheck({entry})");
        Ok(Check::run(Program::python(source).setup(prompt).names([entry]).tests([test])))
    }

    fn signature(&self, _: &Problem, completion: &str) -> Result<Signature> {
        Ok(python::signature(completion))
    }

    fn fixtures(&self) -> Result<Vec<Row>> {
        Row::jsonl(include_str!("../fixtures/humaneval.jsonl"))
    }
}
