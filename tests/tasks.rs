//! The built-in tasks on the real data sets: reference solutions, published verdicts, counts, ids.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sipf_core::dataset::{self, DataOptions};
use sipf_core::verify::{Judged, Verifier};
use sipf_plugin::conformance::{all_hold, check_steps, check_task};
use sipf_plugin::{Check, Problem, Role, Signature, Split, Task};
use sipf_tasks::code::python;
use sipf_tests::{data, run, run_well, sipf};

fn task(name: &str) -> Arc<dyn Task> {
    sipf_tasks::all().into_iter().find(|task| task.card().name == name).expect("a built-in task")
}

fn problems(task: &dyn Task, split: Split, folder: &Path) -> Vec<Problem> {
    let options = DataOptions { data: Some(folder.to_owned()), ..DataOptions::default() };
    dataset::load(task, split, &options).expect("the split loads").problems
}

fn judge(verifier: &Verifier, problem: &Problem, completion: &str) -> Judged {
    verifier.judge_one(problem, completion).expect("a verdict")
}

#[test]
fn built_in_tasks_conform() {
    for task in sipf_tasks::all() {
        let findings = check_task(&*task, None);
        assert!(all_hold(&findings), "{}: {findings:?}", task.card().name);
    }
}

#[test]
fn every_gsm8k_reference_passes_and_no_corrupted_one_does() {
    let Some(folder) = data() else { return };
    let task = task("gsm8k");
    let verifier = Verifier::new(task.clone(), None, None).unwrap();
    for (split, count) in [(Split::Train, 7473), (Split::Test, 1319)] {
        let problems = problems(&*task, split, &folder);
        assert_eq!(problems.len(), count);
        for problem in &problems {
            let (solution, answer) =
                (problem.solution.as_deref().unwrap(), problem.answer.as_deref().unwrap());
            let right = judge(&verifier, problem, solution);
            assert!(right.passed && right.by_rule["flexible"], "{}: {right:?}", problem.id);
            let (steps, _) = solution.rsplit_once("The answer is").unwrap();
            let other = answer.parse::<i64>().unwrap();
            let longer =
                answer.strip_prefix('-').map_or(format!("1{answer}"), |digits| format!("-1{digits}"));
            for wrong in [format!("{answer}7"), format!("{}", other + 1), longer, format!("{other}.5")] {
                let judged = judge(&verifier, problem, &format!("{steps}The answer is {wrong}"));
                // A step may say "The answer is" itself; then the first one counts, whatever the last line says.
                let first = steps.contains("The answer is");
                assert!(!judged.passed || first, "{}: {wrong} passes for {answer}", problem.id);
                assert!(!judged.by_rule["flexible"], "{}: {wrong} passes for {answer}", problem.id);
            }
        }
    }
}

#[test]
fn every_gsm8k_step_span_is_sound_and_few_references_have_a_false_equation() {
    let Some(folder) = data() else { return };
    let task = task("gsm8k");
    let (mut flawed, mut keyed) = (0, 0);
    for problem in problems(&*task, Split::Train, &folder) {
        let solution = problem.solution.as_deref().unwrap();
        assert_eq!(task.clean(&problem, solution).unwrap(), solution, "{}", problem.id);
        let steps = task.steps(&problem, solution).unwrap();
        check_steps(solution, &steps).unwrap();
        assert!(!steps.is_empty(), "{}", problem.id);
        match task.signature(&problem, solution).unwrap() {
            Signature::Key { flaw, .. } => {
                keyed += 1;
                flawed += usize::from(flaw.is_some());
            }
            Signature::Exact { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(keyed > 7300, "{keyed} references have equations");
    assert!(flawed < 150, "{flawed} of {keyed} references have an equation that does not hold");
}

const MODELS: [&str; 4] = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"];

/// The published verdicts on four models' solutions; their answer stands on a last line `A: n`.
fn published_solutions(folder: &Path) -> Vec<(usize, String, bool)> {
    let path = folder.join("gsm8k/example_model_solutions.jsonl");
    let text = std::fs::read_to_string(path).expect("the published solutions");
    let mut found = Vec::new();
    for (row, line) in text.lines().enumerate() {
        let value: Value = serde_json::from_str(line).unwrap();
        for model in MODELS {
            let solution = value[model]["solution"].as_str().unwrap().to_owned();
            found.push((row, solution, value[model]["is_correct"].as_bool().unwrap()));
        }
    }
    found
}

#[test]
fn all_5276_published_gsm8k_verdicts_are_reproduced() {
    let Some(folder) = data() else { return };
    let task = task("gsm8k");
    let verifier = Verifier::new(task.clone(), None, None).unwrap();
    let problems = problems(&*task, Split::Test, &folder);
    let solutions = published_solutions(&folder);
    assert_eq!(solutions.len(), 5276);
    for (row, solution, correct) in &solutions {
        let as_written = judge(&verifier, &problems[*row], solution);
        assert_eq!(as_written.passed, *correct, "row {row}: {solution}");
        // The same text in the form that this project's models write.
        let (steps, answer) = solution.rsplit_once("A:").unwrap_or((solution, " none"));
        let stated = judge(&verifier, &problems[*row], &format!("{steps}The answer is{answer}"));
        assert_eq!(stated.passed, *correct, "row {row}: {solution}");
    }
    let right: Vec<usize> =
        (0..4).map(|model| solutions.iter().skip(model).step_by(4).filter(|(.., ok)| *ok).count()).collect();
    assert_eq!(right, [286, 515, 458, 742]);
}

#[test]
fn mmlu_math_has_354_problems_and_one_of_them_is_a_list() {
    let Some(folder) = data() else { return };
    let task = task("mmlu-math");
    let problems = problems(&*task, Split::Test, &folder);
    let of = |subject: &str| problems.iter().filter(|p| p.id.contains(subject)).count();
    assert_eq!(problems.len(), 354);
    assert_eq!([of("/college_"), of("/high_school_"), of("/elementary_")], [26, 177, 151]);
    assert!(problems.iter().all(|p| p.id.starts_with("mmlu-math/") && p.extra.is_null()));
    assert_eq!(
        problems.iter().filter(|p| p.answer.as_deref() == Some("224")).count(),
        1,
        "2,2,4 reads as 224"
    );
    let verifier = Verifier::new(task, None, None).unwrap();
    assert!(problems.iter().all(|p| judge(&verifier, p, p.solution.as_deref().unwrap()).passed));
}

#[test]
fn mbpp_rows_give_six_prompts_each_over_the_published_splits() {
    let Some(folder) = data() else { return };
    let task = task("mbpp");
    for (split, count, first, last) in
        [(Split::Train, 2244, 601, 974), (Split::Test, 3000, 11, 510), (Split::Validation, 540, 511, 600)]
    {
        let problems = problems(&*task, split, &folder);
        assert_eq!(problems.len(), count, "{split}");
        assert_eq!(problems[0].id, format!("mbpp/{first}/p0"));
        assert_eq!(problems[count - 1].id, format!("mbpp/{last}/p5"));
        let ids: BTreeSet<&str> = problems.iter().map(|p| p.id.as_str()).collect();
        assert_eq!(ids.len(), count);
        for problem in &problems {
            let prompt = task.prompt(problem, Role::Policy).unwrap();
            let tests: Vec<&str> =
                problem.extra["tests"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let shown: &[usize] = match problem.id.rsplit("/p").next().unwrap() {
                "0" => &[0],
                "1" => &[1, 2],
                "2" => &[1],
                "3" => &[0, 2],
                "4" => &[2],
                _ => &[0, 1],
            };
            let listed: String = shown.iter().map(|n| format!("{}\n", tests[*n])).collect();
            let question = &problem.question;
            assert_eq!(
                prompt,
                format!("'''\n{question} Your code should satisfy these tests:\n{listed}'''\n")
            );
        }
    }
}

#[test]
fn code_tasks_name_what_the_program_owes_and_keep_references_whole() {
    let Some(folder) = data() else { return };
    let mbpp = task("mbpp");
    for split in [Split::Train, Split::Validation, Split::Test] {
        for problem in problems(&*mbpp, split, &folder) {
            let solution = problem.solution.clone().unwrap();
            let Check::Run(program) = mbpp.verify(&problem, &solution).unwrap() else {
                panic!("{}", problem.id)
            };
            assert!(!program.names.is_empty() && program.tests.len() == 3, "{}", problem.id);
            let called =
                program.tests.iter().all(|test| program.names.iter().any(|name| test.contains(name)));
            assert!(called, "{}: {:?} in {:?}", problem.id, program.names, program.tests);
            let cleaned = mbpp.clean(&problem, &solution).unwrap();
            let kept = python::defined(&cleaned);
            assert!(program.names.iter().all(|name| kept.contains(name)), "{}: {cleaned}", problem.id);
            assert!(!solution.contains('\r'));
        }
    }
    let humaneval = task("humaneval");
    let problems = problems(&*humaneval, Split::Test, &folder);
    assert_eq!(problems.len(), 164);
    for problem in problems {
        let solution = problem.solution.clone().unwrap();
        assert_eq!(humaneval.clean(&problem, &solution).unwrap(), solution, "{}", problem.id);
        let Check::Run(whole) = humaneval.verify(&problem, &solution).unwrap() else {
            panic!("{}", problem.id)
        };
        let body = &solution[problem.extra["prompt"].as_str().unwrap().len()..];
        let Check::Run(from_body) = humaneval.verify(&problem, body).unwrap() else {
            panic!("{}", problem.id)
        };
        assert_eq!(whole, from_body, "{}: the body alone is put behind the prompt", problem.id);
        assert_eq!(whole.names.len(), 1);
    }
}

#[test]
fn verify_judges_completions_in_order_and_goes_on_past_bad_lines() {
    let Some(folder) = data() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (input, output) = (scratch.path().join("in.jsonl"), scratch.path().join("out.jsonl"));
    let mut lines = String::new();
    for (row, solution, _) in published_solutions(&folder) {
        let line = serde_json::json!({ "id": format!("gsm8k/test/{row}"), "completion": solution });
        writeln!(lines, "{line}").unwrap();
    }
    std::fs::write(&input, &lines).unwrap();
    let verify = |input: &Path| {
        let mut command = sipf();
        command.args(["verify", "--task", "gsm8k", "--json", "--completions"]).arg(input);
        command.arg("--out").arg(&output).arg("--data").arg(&folder);
        command
    };
    let counts: Value = serde_json::from_str(&run_well(&mut verify(&input))).unwrap();
    assert_eq!(
        (&counts["total"], &counts["passed"], &counts["errors"]),
        (&5276.into(), &2001.into(), &0.into())
    );
    let rows: Vec<Value> =
        std::fs::read_to_string(&output).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for (row, (number, _, correct)) in rows.iter().zip(published_solutions(&folder)) {
        assert_eq!(row["id"], format!("gsm8k/test/{number}"));
        assert_eq!(row["passed"], correct);
        assert_eq!(row["by_rule"].as_object().unwrap().len(), 3);
    }
    let good = r#"{"id": "gsm8k/test/0", "completion": "The answer is 18"}"#;
    let unknown = r#"{"id": "gsm8k/test/9999", "completion": ""}"#;
    std::fs::write(&input, format!("{good}\nnot json\n{unknown}\n{{\"id\": \"gsm8k/test/1\"}}\n{good}\n"))
        .unwrap();
    let ran = run(&mut verify(&input));
    assert_eq!(ran.status, Some(1));
    let counts: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&counts["passed"], &counts["errors"], &counts["total"]), (&2.into(), &3.into(), &5.into()));
    for place in ["line 2", "line 3", "line 4", "gsm8k/test/9999", "\"completion\" is missing"] {
        assert!(ran.stderr.contains(place), "{place}: {}", ran.stderr);
    }
    // Every line that says whose it is has a row; the one that is no JSON has none.
    let rows: Vec<Value> =
        std::fs::read_to_string(&output).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let passed: Vec<_> = rows.iter().map(|row| row["passed"].as_bool().unwrap()).collect();
    assert_eq!(passed, [true, false, false, true]);
}

#[test]
fn verify_says_what_it_cannot_start_with() {
    let scratch = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["--task", "nothing", "--reference"], "nothing"),
        (&["--task", "gsm8k", "--reference", "--rule", "loose"], "sipf, strict, flexible"),
        (&["--task", "gsm8k", "--reference", "--split", "validation"], "train, test"),
        (&["--task", "gsm8k", "--reference", "--data", "no/such/folder"], "no/such/folder"),
        (&["--task", "arith", "--reference"], "--limit"),
        (&["--task", "gsm8k"], "--reference"),
    ];
    for (flags, named) in cases {
        let ran = run(sipf().arg("verify").args(flags).current_dir(scratch.path()));
        assert_eq!(ran.status, Some(2), "{flags:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(named), "{flags:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
    let mut offline = sipf();
    offline.env("HF_HUB_OFFLINE", "1").env("HF_HOME", scratch.path());
    let ran = run(offline.args(["verify", "--task", "gsm8k", "--reference"]));
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("gsm8k/test.jsonl") && ran.stderr.contains("--data"), "{}", ran.stderr);
}

#[test]
fn a_bad_row_is_named_by_file_and_line() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("test.jsonl");
    let good = r#"{"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"}"#;
    std::fs::write(&file, format!("{good}\n\n{{\"question\": \"no answer\"}}\n")).unwrap();
    let ran = run(sipf().args(["verify", "--task", "gsm8k", "--reference", "--data"]).arg(&file));
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("test.jsonl, line 3") && ran.stderr.contains("\"answer\""), "{}", ran.stderr);
    std::fs::write(&file, format!("{good}\n")).unwrap();
    let counts =
        run_well(sipf().args(["verify", "--task", "gsm8k", "--reference", "--json", "--data"]).arg(&file));
    assert_eq!(serde_json::from_str::<Value>(&counts).unwrap()["passed"], 1);
}

#[test]
fn parquet_rows_give_the_problems_of_the_same_jsonl_rows() {
    let task = task("mbpp");
    let load = |path: &str| {
        let data = Some(sipf_tests::workspace().join(path));
        let options = DataOptions { data, ..DataOptions::default() };
        dataset::load(&*task, Split::Train, &options).expect("the file loads").problems
    };
    let problems = load("tests/fixtures/mbpp.parquet");
    assert_eq!(problems.len(), 12);
    assert_eq!(problems, load("tasks/fixtures/mbpp.jsonl"));
}

#[test]
fn reference_programs_pass_in_the_sandbox_and_broken_ones_do_not() {
    let Some(folder) = data() else { return };
    for (name, split, count) in [("humaneval", "test", 164), ("mbpp", "validation", 540)] {
        let mut command = sipf();
        command
            .args(["verify", "--task", name, "--split", split, "--reference", "--json", "--data"])
            .arg(&folder);
        let counts: Value = serde_json::from_str(&run_well(&mut command)).unwrap();
        assert_eq!(counts["passed"], count, "{counts}");
        assert_eq!(counts["verdicts"]["passed"], count);
    }
    let scratch = tempfile::tempdir().unwrap();
    let (input, output) = (scratch.path().join("in.jsonl"), scratch.path().join("out.jsonl"));
    let line = |id: &str, text: &str| format!("{}\n", serde_json::json!({ "id": id, "completion": text }));
    // The first row of the test split: remove_Occ(string, character).
    let lines = [
        line("mbpp/11/p0", "def remove_Occ(s, c):\n    return s"),
        line("mbpp/11/p1", "def remove_Occ(s, c:\n"),
        line("mbpp/11/p2", "import sys\nsys.exit(0)"),
        line("mbpp/11/p3", ""),
        line(
            "mbpp/11/p0",
            "def remove_Occ(s, c):\n    s = s.replace(c, '', 1)\n    i = s.rfind(c)\n    return s if i < 0 else s[:i] + s[i + 1:]",
        ),
    ];
    std::fs::write(&input, lines.concat()).unwrap();
    let mut command = sipf();
    command.args(["verify", "--task", "mbpp", "--json", "--completions"]).arg(&input);
    let counts = run_well(command.arg("--out").arg(&output).arg("--data").arg(&folder));
    let counts: Value = serde_json::from_str(&counts).unwrap();
    assert_eq!(
        (&counts["passed"], &counts["failed"], &counts["errors"]),
        (&1.into(), &4.into(), &0.into()),
        "{counts}"
    );
    let text = std::fs::read_to_string(&output).unwrap();
    let verdicts: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let classes: Vec<&str> = verdicts.iter().map(|row| row["verdict"].as_str().unwrap()).collect();
    assert_eq!(classes[0], "failed_assertion", "{text}");
    assert_eq!(classes[1], "syntax_error", "{text}");
    assert_eq!(classes[2], "exit", "{text}");
    assert_eq!(classes[4], "passed", "{text}");
}
