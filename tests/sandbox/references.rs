//! Every reference solution of the real code tasks passes, with the same fuel on one and two threads.

use serde_json::Value;
use sipf_core::dataset::{self, DataOptions};
use sipf_plugin::{Check, Limits, Outcome, Program, RunVerdict, Task};
use sipf_tests::data;

use super::{on, run};

fn programs(task: &dyn Task, folder: &std::path::Path) -> Vec<(String, Program)> {
    let mut found = Vec::new();
    for split in dataset::splits(task) {
        let options = DataOptions { data: Some(folder.to_owned()), ..DataOptions::default() };
        for problem in dataset::load(task, split, &options).unwrap().problems {
            let solution = problem.solution.clone().unwrap();
            match task.verify(&problem, &solution).unwrap() {
                Check::Run(program) => found.push((problem.id, program)),
                other => panic!("{}: {other:?}", problem.id),
            }
        }
    }
    found
}

fn all_pass(programs: &[(String, Program)]) -> Vec<Outcome> {
    let only: Vec<Program> = programs.iter().map(|(_, program)| program.clone()).collect();
    let paired = run(&on(2), &only);
    for ((id, _), outcome) in programs.iter().zip(&paired) {
        assert_eq!(outcome.verdict, RunVerdict::Passed, "{id}: {:?}", outcome.explanation());
    }
    paired
}

#[test]
fn humaneval_references_pass_with_the_same_fuel_on_any_number_of_threads() {
    let Some(folder) = data() else { return };
    let programs = programs(&sipf_tasks::HumanEval, &folder);
    assert_eq!(programs.len(), 164);
    let paired = all_pass(&programs);
    let only: Vec<Program> = programs.iter().map(|(_, program)| program.clone()).collect();
    for _ in 0..2 {
        assert_eq!(run(&on(1), &only), paired);
    }
}

#[test]
fn mbpp_references_pass_with_the_default_limits() {
    let Some(folder) = data() else { return };
    // The rows themselves: the task makes several problems of each.
    let text = std::fs::read_to_string(folder.join("mbpp/mbpp.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 974);
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect()
    };
    let programs: Vec<(String, Program)> = rows
        .iter()
        .map(|row| {
            let (code, setup) = (row["code"].as_str().unwrap(), row["test_setup_code"].as_str().unwrap());
            let tests: Vec<&str> =
                row["test_list"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            let used = words(&format!("{setup} {}", tests.join(" ")));
            let names: Vec<&str> = code
                .lines()
                .filter_map(|line| line.strip_prefix("def ").or_else(|| line.strip_prefix("class ")))
                .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
                .filter(|name| used.iter().any(|word| word == name))
                .collect();
            let program =
                Program::python(code).setup(setup).tests(tests).names(names).limits(Limits::default());
            (format!("mbpp/{}", row["task_id"]), program)
        })
        .collect();
    let paired = all_pass(&programs);
    let light: Vec<usize> = (0..programs.len()).filter(|&k| paired[k].fuel < 1_000_000_000).collect();
    let again: Vec<Program> = light.iter().map(|&k| programs[k].1.clone()).collect();
    for (&k, outcome) in light.iter().zip(run(&on(1), &again)) {
        assert_eq!(outcome, paired[k], "{}", programs[k].0);
    }
}
