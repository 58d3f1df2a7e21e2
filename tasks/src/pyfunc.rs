//! `pyfunc`: generated "write a function" problems, judged by their asserts in the sandbox.
//!
//! - **Data**: none; an endless seeded generator. A problem is a short pipeline over a number or a list. The hash of
//!   its program decides between train and test, so the splits cannot meet, however a problem is worded. No two of
//!   13,824 problems in a row have the same words around the pipeline, so no question repeats before that.
//! - **Prompt**: as `mbpp`: description and one of three asserts in triple quotes.
//! - **Steps**: every non-empty line ([`crate::code::steps`]).
//! - **Answer**: none; programs have no normal form.
//! - **Verdict**: all three asserts pass in the sandbox.
//! - **Reference**: one line a stage. `demonstration` is noisy on purpose: each stage is misread with probability
//!   0.25 (another operation, or left out).

mod stage;
mod words;

use sipf_plugin::prelude::*;

use crate::code::{python, steps};
use crate::mbpp::code_prompt;
use stage::{Stage, Value as Data};
use words::Words;

/// The task `pyfunc`.
#[derive(Debug, Default, Clone, Copy)]
pub struct PyFunc;

/// One program in so many is a test problem's.
const TEST_SHARE: u64 = 5;
/// How often a stage of a demonstration is misread.
const MISREAD: f32 = 0.25;
/// Largest absolute value in an assert.
const LARGEST: i64 = 999;
const TESTS: usize = 3;

/// A drawn problem.
struct Drawn {
    of_list: bool,
    stages: Vec<Stage>,
    told: Vec<String>,
    inputs: Vec<Data>,
}

fn draw(stream: &mut Stream) -> Drawn {
    let of_list = stream.chance(0.6);
    let stages = stage::pipeline(stream, of_list);
    let told = stages.iter().map(|stage| stage.told(stream)).collect();
    let inputs = (0..TESTS).map(|_| stage::input(stream, of_list)).collect();
    Drawn { of_list, stages, told, inputs }
}

/// The program of these stages, one line each.
fn program(words: &Words, stages: &[Stage], of_list: bool) -> String {
    let (name, argument) = (&words.name, words.argument(of_list));
    let mut lines = vec![format!("def {name}({argument}):")];
    let mut last = argument;
    for stage in stages {
        let target = words.argument(stage.gives_list());
        lines.push(format!("    {target} = {}", stage.expression(last)));
        last = target;
    }
    lines.push(format!("    return {last}"));
    lines.join("\n")
}

/// The asserts, or `None` where the stages cannot take an input, values grow too large, or all results are equal.
fn asserts(drawn: &Drawn, name: &str) -> Option<Vec<String>> {
    let mut results = Vec::new();
    for input in &drawn.inputs {
        let result = drawn.stages.iter().try_fold(input.clone(), |value, stage| stage.apply(&value))?;
        if result.largest() > LARGEST {
            return None;
        }
        results.push(result);
    }
    let told = drawn.inputs.iter().zip(&results);
    let asserts = told.map(|(input, result)| format!("assert {name}({input}) == {result}")).collect();
    results.iter().any(|result| *result != results[0]).then_some(asserts)
}

fn demonstration(words: &Words, drawn: &Drawn, stream: &mut Stream) -> String {
    let mut stages = Vec::new();
    for stage in &drawn.stages {
        match stream.chance(MISREAD) {
            false => stages.push(stage.clone()),
            true => stages.extend(stage.misread()),
        }
    }
    program(words, &stages, drawn.of_list)
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
        let words = Words::of(index);
        loop {
            let drawn = draw(&mut stream);
            let plain = program(&Words::of(0), &drawn.stages, drawn.of_list);
            let is_test = random::key(&plain, 0) % TEST_SHARE == 0;
            if is_test != (split == Split::Test) {
                continue;
            }
            let Some(asserts) = asserts(&drawn, &words.name) else { continue };
            let mut noise = Stream::new(random::key(&format!("pyfunc/{split}/demonstration"), index));
            return Ok(Row::new(
                index,
                json!({
                    "question": words.question(drawn.of_list, &drawn.told),
                    "name": words.name,
                    "tests": asserts,
                    "solution": program(&words, &drawn.stages, drawn.of_list),
                    "demonstration": demonstration(&words, &drawn, &mut noise),
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
    fn questions_do_not_repeat_the_splits_share_no_program_and_demonstrations_are_noisy() {
        let rows = |split, count| (0..count).map(move |index| PyFunc.generate(split, index).expect("row"));
        let of = |split, count, what: fn(&Row) -> String| -> BTreeSet<String> {
            rows(split, count).map(|row| what(&row)).collect()
        };
        let question = |row: &Row| row.text("question").expect("text").to_owned();
        // The program without its names, which differ from row to row.
        let program = |row: &Row| {
            let words = Words::of(row.index);
            let known = [words.name.as_str(), words.argument(true), words.argument(false)];
            let parts = row
                .text("solution")
                .expect("text")
                .split_inclusive(|c: char| !c.is_alphanumeric() && c != '_');
            let plain = |part: &str| {
                let name = part.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '_');
                match known.iter().position(|known| *known == name) {
                    Some(place) => part.replace(name, &format!("${place}")),
                    None => part.to_owned(),
                }
            };
            parts.map(plain).collect::<String>()
        };
        let train = of(Split::Train, 10_000, question);
        assert_eq!(train.len(), 10_000);
        let test = of(Split::Test, 2000, question);
        assert_eq!(test.len(), 2000);
        assert!(train.is_disjoint(&test));
        let programs = of(Split::Train, 10_000, program);
        assert!(programs.len() > 5000, "only {} programs", programs.len());
        assert!(programs.is_disjoint(&of(Split::Test, 2000, program)));
        let same = rows(Split::Train, 1500)
            .filter(|row| row.text("solution").ok() == row.text("demonstration").ok())
            .count();
        assert!((600..1200).contains(&same), "{same} of 1500 demonstrations are right");
    }
}
