//! `pyfunc`: generated "write a function" problems, judged by their asserts in the sandbox.
//!
//! - **Data**: none; an endless seeded generator. A problem is a short pipeline over a number or a list. A
//!   description's own hash decides between train and test, so the splits cannot meet.
//! - **Prompt**: as `mbpp`: description and one of three asserts in triple quotes.
//! - **Steps**: every non-empty line ([`crate::code::steps`]).
//! - **Answer**: none; programs have no normal form.
//! - **Verdict**: all three asserts pass in the sandbox.
//! - **Reference**: one line a stage. `demonstration` is noisy on purpose: each stage is misread with probability
//!   0.25 (another operation, or left out).

mod stage;

use sipf_plugin::prelude::*;

use crate::code::{python, steps};
use crate::mbpp::code_prompt;
use stage::{Stage, Value as Data};

/// The task `pyfunc`.
#[derive(Debug, Default, Clone, Copy)]
pub struct PyFunc;

/// One description in so many is a test problem.
const TEST_SHARE: u64 = 5;
/// How often a stage of a demonstration is misread.
const MISREAD: f32 = 0.25;
/// Largest absolute value in an assert.
const LARGEST: i64 = 999;
const TESTS: usize = 3;

const NUMBER_NAMES: [&str; 6] = ["change", "convert", "adjust", "compute", "scale", "shift"];
const LIST_NAMES: [&str; 6] = ["collect", "process", "select", "gather", "filter_values", "transform"];

/// A drawn problem: the function's name and its stages.
struct Drawn {
    name: &'static str,
    stages: Vec<Stage>,
    description: String,
    inputs: Vec<Data>,
}

fn draw(stream: &mut Stream) -> Drawn {
    let of_list = stream.chance(0.6);
    let names = if of_list { &LIST_NAMES } else { &NUMBER_NAMES };
    let name = stream.pick(names).copied().unwrap_or(names[0]);
    let stages = stage::pipeline(stream, of_list);
    let told: Vec<String> = stages.iter().map(|stage| stage.told(stream)).collect();
    let of = if of_list { "list xs" } else { "number x" };
    let description = format!("Write a function {name} that takes a {of} and {}.", told.join(", then "));
    let inputs = (0..TESTS).map(|_| stage::input(stream, of_list)).collect();
    Drawn { name, stages, description, inputs }
}

/// The program of these stages, one line each.
fn program(name: &str, stages: &[Stage], of_list: bool) -> String {
    let argument = if of_list { "xs" } else { "x" };
    let mut lines = vec![format!("def {name}({argument}):")];
    let mut last = argument;
    for stage in stages {
        let target = if stage.gives_list() { "xs" } else { "x" };
        lines.push(format!("    {target} = {}", stage.expression(last)));
        last = target;
    }
    lines.push(format!("    return {last}"));
    lines.join("\n")
}

/// The asserts, or `None` where the stages cannot take an input, values grow too large, or all results are equal.
fn asserts(drawn: &Drawn) -> Option<Vec<String>> {
    let mut results = Vec::new();
    for input in &drawn.inputs {
        let result = drawn.stages.iter().try_fold(input.clone(), |value, stage| stage.apply(&value))?;
        if result.largest() > LARGEST {
            return None;
        }
        results.push(result);
    }
    let told = drawn.inputs.iter().zip(&results);
    let asserts = told.map(|(input, result)| format!("assert {}({input}) == {result}", drawn.name)).collect();
    results.iter().any(|result| *result != results[0]).then_some(asserts)
}

fn demonstration(drawn: &Drawn, of_list: bool, stream: &mut Stream) -> String {
    let mut stages = Vec::new();
    for stage in &drawn.stages {
        match stream.chance(MISREAD) {
            false => stages.push(stage.clone()),
            true => stages.extend(stage.misread()),
        }
    }
    program(drawn.name, &stages, of_list)
}

impl Task for PyFunc {
    fn card(&self) -> TaskCard {
        TaskCard::new("pyfunc", Domain::Code)
            .summary(
                "generated write-a-function problems, judged by their asserts in the sandbox (no download)",
            )
            .temperature(1.0)
            .max_tokens(128)
            .stop(python::stop_strings())
            .runs_with("tiny", "prm-trl", "tiny")
    }

    fn source(&self, split: Split) -> Result<Source> {
        Ok(match split {
            Split::Train | Split::Test => Source::Generated,
            _ => Source::Missing,
        })
    }

    fn generate(&self, split: Split, index: u64) -> Result<Row> {
        if !matches!(split, Split::Train | Split::Test) {
            return Err(Error::new(format!("task pyfunc has no {split} split, only: train, test")));
        }
        let mut stream = Stream::new(random::key(&format!("pyfunc/{split}/problem"), index));
        loop {
            let drawn = draw(&mut stream);
            let is_test = random::key(&drawn.description, 0) % TEST_SHARE == 0;
            if is_test != (split == Split::Test) {
                continue;
            }
            let Some(asserts) = asserts(&drawn) else { continue };
            let of_list = matches!(drawn.inputs[0], Data::List(_));
            let mut noise = Stream::new(random::key(&format!("pyfunc/{split}/demonstration"), index));
            return Ok(Row::new(
                index,
                json!({
                    "question": drawn.description,
                    "name": drawn.name,
                    "tests": asserts,
                    "solution": program(drawn.name, &drawn.stages, of_list),
                    "demonstration": demonstration(&drawn, of_list, &mut noise),
                }),
            ));
        }
    }

    fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>> {
        let (question, tests) = (row.text("question")?, row.texts("tests")?);
        let shown = tests.first().context("key \"tests\" is empty")?;
        Ok(vec![
            Problem::new(format!("pyfunc/{split}/{}", row.index), question)
                .solution(row.text("solution")?)
                .demonstration(row.text("demonstration")?)
                .extra(
                    json!({ "asked": code_prompt(question, std::slice::from_ref(shown)), "tests": tests, "names": [row.text("name")?] }),
                ),
        ])
    }

    fn prompt(&self, problem: &Problem, _: Role) -> Result<String> {
        Ok(Row::new(0, problem.extra.clone()).text("asked")?.to_owned())
    }

    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        let extra = Row::new(0, problem.extra.clone());
        Ok(Check::run(Program::python(completion).names(extra.texts("names")?).tests(extra.texts("tests")?)))
    }

    fn clean(&self, _: &Problem, raw: &str) -> Result<String> {
        Ok(python::program(raw).to_owned())
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        Ok(steps::steps(completion))
    }

    /// The program without its white space: these are so short that an edit or two is another program.
    fn signature(&self, _: &Problem, completion: &str) -> Result<Signature> {
        Ok(Signature::exact(completion.split_whitespace().collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sipf_plugin::conformance;
    use std::collections::BTreeSet;

    #[test]
    fn it_conforms_but_for_what_needs_the_sandbox() {
        let findings = conformance::check_task(&PyFunc, None);
        assert!(conformance::all_hold(&findings), "{findings:#?}");
    }

    #[test]
    fn the_splits_do_not_meet_and_demonstrations_are_noisy() {
        let rows = |split| (0..1500).map(move |index| PyFunc.generate(split, index).expect("row"));
        let questions = |split| -> BTreeSet<String> {
            rows(split).map(|row| row.text("question").expect("text").to_owned()).collect()
        };
        assert!(questions(Split::Train).is_disjoint(&questions(Split::Test)));
        let same = rows(Split::Train)
            .filter(|row| row.text("solution").ok() == row.text("demonstration").ok())
            .count();
        assert!((600..1200).contains(&same), "{same} of 1500 demonstrations are right");
    }
}
