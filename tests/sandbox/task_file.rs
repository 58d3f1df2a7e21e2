//! A task written as one Python file answers the plugin API's calls.

use serde_json::{Value, json};
use sipf_plugin::{Check, Manifest, Problem, Row};
use sipf_sandbox::PythonTask;

const SUMS: &str = include_str!("../fixtures/sums.py");

fn call(task: &PythonTask, request: Value) -> (i32, String) {
    let (status, reply) = task.call(&serde_json::to_vec(&request).unwrap()).unwrap();
    (status, String::from_utf8(reply).unwrap())
}

#[test]
fn it_says_what_it_is_and_makes_prompts_and_judges() {
    let task = PythonTask::load(SUMS).unwrap();
    let (status, reply) = call(&task, json!({"call": "manifest"}));
    let manifest: Manifest = serde_json::from_str(&reply).unwrap();
    assert_eq!((status, manifest.check()), (0, Ok(())));
    assert_eq!(manifest.tasks[0].name, "sums");
    let asked = json!({"plugin": "sums", "call": "generate", "split": "test", "index": 3});
    let row: Row = serde_json::from_str(&call(&task, asked).1).unwrap();
    let asked = json!({"plugin": "sums", "call": "problems", "row": row, "split": "test"});
    let problems: Vec<Problem> = serde_json::from_str(&call(&task, asked).1).unwrap();
    assert_eq!((problems[0].id.as_str(), problems[0].answer.as_deref()), ("sums/test/3", Some("10")));
    for (completion, passed) in
        [(problems[0].solution.as_deref().unwrap(), true), ("The answer is 11", false), ("", false)]
    {
        let asked =
            json!({"plugin": "sums", "call": "verify", "problem": problems[0], "completion": completion});
        match serde_json::from_str(&call(&task, asked).1).unwrap() {
            Check::Verdict(verdict) => assert_eq!(verdict.passed, passed, "{completion}"),
            other => panic!("{other:?}"),
        }
    }
    let (status, _) =
        call(&task, json!({"plugin": "sums", "call": "clean", "problem": problems[0], "raw": "x"}));
    assert_eq!(status, 3, "what the file does not define is the host's default");
    assert_eq!(task.call(b"{\"call\":").unwrap().0, 4, "malformed");
}

#[test]
fn what_goes_wrong_in_it_is_an_answer_and_not_the_end() {
    let source = SUMS.replace(
        "return problem.question + \"\\n\"",
        "\n    if role == 'policy':\n        while True: pass\n    return missing",
    );
    let task = PythonTask::load(&source).unwrap();
    let ask =
        |role| json!({"plugin": "sums", "call": "prompt", "problem": Problem::new("a", "b"), "role": role});
    let (status, reply) = call(&task, ask("simulator"));
    assert_eq!(status, 1);
    assert!(reply.contains("NameError") && reply.contains("missing") && reply.contains("line"), "{reply}");
    let (status, reply) = call(&task, ask("policy"));
    assert!(status == 1 && reply.contains("fuel"), "{reply}");
    assert_eq!(call(&task, json!({"call": "manifest"})).0, 0, "it goes on");
}

#[test]
fn a_file_that_is_no_task_says_what_is_missing() {
    let why = |source: &str| PythonTask::load(source).err().unwrap().to_string();
    assert!(why("x = 1").contains("CARD"));
    assert!(why("CARD = {'name': 'a'}\ndef prompt(p, r): return ''").contains("problems, verify"));
    assert!(why("def f(:").contains("SyntaxError"));
    assert!(
        why("import os\nos._exit(0)").contains("left with status")
            || why("import os\nos._exit(0)").contains("crashed")
    );
}
