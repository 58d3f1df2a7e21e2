//! MBPP: mostly basic Python problems, judged by running their tests (Austin et al., 2021).
//!
//! - **Data**: `mbpp/mbpp.jsonl`, 974 rows; splits by `task_id`: test 11-510, validation 511-600, train 601-974.
//! - **Prompt**: the paper's: text and tests in triple quotes. Six prompts a row: `p0`, `p2`, `p4` show assert 0, 1, 2
//!   alone, `p1`, `p3`, `p5` the other two.
//! - **Steps**: every non-empty line; rollouts start after coarser chunks ([`crate::code::steps`]).
//! - **Answer**: none; programs have no normal form.
//! - **Verdict**: all three asserts pass in the sandbox, after `test_setup_code`.
//! - **Reference**: the published `code`, with plain line ends.

use sipf_plugin::prelude::*;

use crate::code::{python, steps};

/// The task `mbpp`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Mbpp;

/// Which asserts each of the six prompts shows.
const SHOWN: [&[usize]; 6] = [&[0], &[1, 2], &[1], &[0, 2], &[2], &[0, 1]];

fn split_of(id: i64) -> Option<Split> {
    match id {
        11..=510 => Some(Split::Test),
        511..=600 => Some(Split::Validation),
        601..=974 => Some(Split::Train),
        _ => None,
    }
}

/// The prompt of code tasks: description and tests in triple quotes.
pub(crate) fn code_prompt(description: &str, tests: &[String]) -> String {
    format!("'''\n{description} Your code should satisfy these tests:\n{}\n'''\n", tests.join("\n"))
}

fn published(split: Split) -> Published {
    Published {
        repository: "google-research-datasets/mbpp".into(),
        revision: "main".into(),
        path: format!("full/{split}-00000-of-00001.parquet"),
        format: DataFormat::Parquet,
        sha256: None,
    }
}

/// The judged program of a row: only what the reference defines and setup or tests read comes from the model.
fn program(problem: &Problem, source: &str) -> Result<Program> {
    let extra = Row::new(0, problem.extra.clone());
    Ok(Program::python(source)
        .setup(extra.text("setup")?)
        .names(extra.texts("names")?)
        .tests(extra.texts("tests")?))
}

impl Task for Mbpp {
    fn card(&self) -> TaskCard {
        TaskCard::new("mbpp", Domain::Code)
            .summary("basic Python problems, judged by their tests in the sandbox")
            .metric(Metric::PassAtK)
            .temperature(0.7)
            .stop(python::stop_strings())
            .transfer(["humaneval"])
            .quotas(25, 25)
            .runs_with("google/gemma-2b", "prm-deepseek", "mbpp-gemma-2b")
    }

    fn source(&self, split: Split) -> Result<Source> {
        Ok(Source::files([DataFile::new("mbpp/mbpp.jsonl", DataFormat::Jsonl).published(published(split))]))
    }

    fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>> {
        let id = row.integer("task_id")?;
        if row.data.get("test_imports").is_some() {
            return Err(Error::new(
                "this row is of sanitized-mbpp.json, whose prompts and splits differ; the task reads mbpp.jsonl",
            ));
        }
        if split_of(id) != Some(split) {
            return Ok(Vec::new());
        }
        let tests = row.texts("test_list")?;
        if tests.len() != 3 {
            return Err(Error::new(format!("task {id} has {} tests, six prompts need 3", tests.len())));
        }
        let setup = row.text("test_setup_code")?.replace("\r\n", "\n");
        let code = row.text("code")?.replace("\r\n", "\n");
        let read = python::mentioned(&format!("{setup}\n{}", tests.join("\n")));
        let names: Vec<String> = python::defined(&code).intersection(&read).cloned().collect();
        let text = row.text("text")?;
        let problem = |(number, shown): (usize, &&[usize])| {
            let shown: Vec<String> = shown.iter().map(|test| tests[*test].clone()).collect();
            let asked = code_prompt(text, &shown);
            let extra =
                json!({ "tests": tests, "setup": setup, "names": names, "asked": asked, "group": id });
            Problem::new(format!("mbpp/{id}/p{number}"), text).solution(code.trim_end()).extra(extra)
        };
        Ok(SHOWN.iter().enumerate().map(problem).collect())
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
        Ok(Check::run(program(problem, completion)?))
    }

    fn signature(&self, _: &Problem, completion: &str) -> Result<Signature> {
        Ok(python::signature(completion))
    }

    fn fixtures(&self) -> Result<Vec<Row>> {
        Row::jsonl(include_str!("../fixtures/mbpp.jsonl"))
    }
}
