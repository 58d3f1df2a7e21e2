//! `sipf task list` and `sipf task show`.

use serde_json::Value;
use sipf_tests::{run, run_well, sipf};

#[test]
fn every_task_is_listed_and_shown_with_a_sample_prompt() {
    let list: Value = serde_json::from_str(&run_well(sipf().args(["task", "list", "--json"]))).unwrap();
    let names: Vec<&str> =
        list["tasks"].as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap()).collect();
    for name in ["gsm8k", "mmlu-math", "mbpp", "humaneval", "arith"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    for name in names {
        let shown: Value =
            serde_json::from_str(&run_well(sipf().args(["task", "show", name, "--json"]))).unwrap();
        assert_eq!(shown["card"]["name"], name);
        assert!(!shown["prompt"].as_str().unwrap().is_empty(), "{name}");
        assert!(run_well(sipf().args(["task", "show", name])).contains("sample problem"));
    }
}

#[test]
fn an_unknown_task_names_the_known_ones_and_exits_with_2() {
    let ran = run(sipf().args(["task", "show", "gsm9k"]));
    assert_eq!(ran.status, Some(2));
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("\"gsm9k\"") && ran.stderr.contains("gsm8k"), "{}", ran.stderr);
}
