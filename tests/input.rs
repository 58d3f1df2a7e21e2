//! Files that people hand in: a byte order mark at their beginning is no part of what they hold.

use std::path::Path;

use serde_json::{Value, json};
use sipf_plugin::DataFormat;
use sipf_tests::{run_well, sipf, workspace};

const MARK: &str = "\u{feff}";

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The JSON that a command prints.
fn printed(arguments: &[&str]) -> Value {
    serde_json::from_str(&run_well(sipf().args(arguments))).unwrap()
}

#[test]
fn a_byte_order_mark_is_tolerated_wherever_a_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| write(folder.path(), name, &format!("{MARK}{text}"));
    let out = folder.path().join("out.jsonl").to_str().unwrap().to_owned();

    let program = json!({"id": 0, "program": "def f(x): return x", "tests": ["assert f(1) == 1"]});
    let rows = file("programs.jsonl", &program.to_string());
    let counts = printed(&["sandbox", "batch", &rows, "--out", &out, "--json"]);
    assert_eq!((&counts["passed"], &counts["bad_lines"]), (&json!(1), &json!(0)));

    let (code, setup) = (file("f.py", "def f(x): return x\n"), file("setup.py", "k = 4\n"));
    run_well(sipf().args(["sandbox", "exec", &code, "--setup", &setup, "--test", "assert f(k) == 4"]));

    let prompts = "{\"id\": \"a\", \"prompt\": \"Tom has 3 apples\"}\n";
    let complete = |prompts: &str| {
        printed(&["generate", "--model", "tiny-strong", "--prompts", prompts, "--max-tokens", "4", "--json"])
    };
    assert_eq!(
        complete(&file("marked.jsonl", prompts)),
        complete(&write(folder.path(), "plain.jsonl", prompts))
    );

    let row = json!({"id": "arith/test/0", "completion": "The answer is 1"});
    let rows = file("completions.jsonl", &row.to_string());
    let counts = printed(&["verify", "--task", "arith", "--completions", &rows, "--out", &out, "--json"]);
    assert_eq!((&counts["total"], &counts["errors"]), (&json!(1), &json!(0)));

    let sample = json!({"id": "a#0.0", "problem": "a", "prompt": "q", "completion": "c", "passed": true, "kept": true});
    let rows = file("samples.jsonl", &sample.to_string());
    let pairs = ["align", "pairs", "--pair-policy", "outcome", "--data", &rows, "--out", &out, "--json"];
    assert_eq!(printed(&pairs)["rows_in"], json!(1));

    let rows = file("sft.jsonl", "{\"prompt\": \"1 + 1 = \", \"completion\": \"2\"}\n");
    assert_eq!(printed(&["sft", "--model", "tiny", "--data", &rows, "--eval-only"])["rows"], json!(1));

    let config = file("run.toml", "iterations = 2\n");
    let plan = run_well(sipf().args(["run", "--limit", "4", "--dry-run", "--config", &config]));
    assert!(plan.contains("iterations = 2"), "{plan}");

    let sums = std::fs::read_to_string(workspace().join("tests/fixtures/sums.py")).unwrap();
    let plugin = file("sums.py", &sums);
    run_well(sipf().args(["verify", "--reference", "--limit", "1", "--task", &plugin]));

    for (name, format, text) in [
        ("a.csv", DataFormat::Csv, "q,1\n"),
        ("a.jsonl", DataFormat::Jsonl, "{\"0\": \"q\", \"1\": \"1\"}\n"),
        ("a.json", DataFormat::Json, "[{\"0\": \"q\", \"1\": \"1\"}]"),
    ] {
        let mut found = Vec::new();
        let path = file(name, text);
        sipf_core::dataset::read_rows(path.as_ref(), format, &mut |_, row| {
            found.push(row);
            Ok(true)
        })
        .unwrap();
        assert_eq!(found, [json!({"0": "q", "1": "1"})], "{name}");
    }
}
