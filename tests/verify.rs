//! `sipf verify --completions`: every row that has an id gets a row, in order, and the counts add up.

use serde_json::{Value, json};
use sipf_tests::{run, run_well, sipf, workspace};

#[test]
fn rows_that_cannot_be_judged_stand_in_the_output_and_in_the_counts() {
    let folder = tempfile::tempdir().unwrap();
    let task = folder.path().join("sums.py");
    let source = std::fs::read_to_string(workspace().join("tests/fixtures/sums.py")).unwrap();
    let fails = "def verify(problem, completion):\n    if 'boom' in completion: raise ValueError('cannot take this')\n";
    std::fs::write(&task, source.replace("def verify(problem, completion):\n", fails)).unwrap();
    let (rows, out) = (folder.path().join("rows.jsonl"), folder.path().join("out.jsonl"));
    let lines = [
        r#"{"id": "sums/test/1", "completion": "The answer is 4"}"#,
        r#"{"id": "sums/test/1#0.3", "completion": "boom"}"#,
        r#"{"id": 7, "problem": "sums/test/2", "completion": "The answer is 9"}"#,
        "no JSON",
        r#"{"id": 8, "completion": "The answer is 7"}"#,
        r#"{"id": "sums/nowhere/1", "completion": "The answer is 7"}"#,
        r#"{"id": "sums/test/2"}"#,
        r#"{"id": ["sums/test/2"], "completion": "x"}"#,
        r#"{"id": "sums/test/3", "completion": "The answer is 10"}"#,
    ];
    std::fs::write(&rows, lines.join("\n")).unwrap();
    let mut verify = sipf();
    verify
        .args(["verify", "--json", "--completions"])
        .arg(&rows)
        .arg("--task")
        .arg(&task)
        .arg("--out")
        .arg(&out);
    let ran = run(&mut verify);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    let counts: Value = serde_json::from_str(&ran.stdout).unwrap();
    let count = |key: &str| counts[key].as_u64().unwrap();
    assert_eq!([count("total"), count("passed"), count("failed"), count("errors")], [9, 2, 1, 6], "{counts}");

    let text = std::fs::read_to_string(&out).unwrap();
    let judged: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&Value> = judged.iter().map(|row| &row["id"]).collect();
    let wanted = [
        json!("sums/test/1"),
        json!("sums/test/1#0.3"),
        json!(7),
        json!(8),
        json!("sums/nowhere/1"),
        json!("sums/test/2"),
        json!("sums/test/3"),
    ];
    assert_eq!(ids, wanted.iter().collect::<Vec<_>>(), "{text}");
    let passed: Vec<bool> = judged.iter().map(|row| row["passed"].as_bool().unwrap()).collect();
    assert_eq!(passed, [true, false, false, false, false, false, true]);
    let said = |row: usize| judged[row]["message"].as_str().unwrap();
    assert!(said(1).contains("cannot take this") && judged[1]["verdict"] == "host_error", "{}", judged[1]);
    assert!(said(3).contains("line 5") && said(3).contains("\"problem\""), "{}", said(3));
    assert!(said(4).contains("line 6") && said(4).contains("sums/nowhere/1"), "{}", said(4));
    assert!(said(5).contains("line 7") && said(5).contains("completion"), "{}", said(5));
    for line in ["line 4", "line 8", "cannot take this"] {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
    }
}

#[test]
fn verdicts_do_not_depend_on_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let judged = |threads: &str| {
        let out = folder.path().join(threads);
        let mut verify = sipf();
        verify.args(["verify", "--task", "pyfunc", "--reference", "--split", "train", "--limit", "20"]);
        run_well(verify.args(["--threads", threads, "--out"]).arg(&out));
        std::fs::read_to_string(out).unwrap()
    };
    let alone = judged("1");
    assert_eq!(alone.lines().filter(|row| row.contains("\"passed\":true")).count(), 20, "{alone}");
    assert_eq!(alone, judged("2"));
    let none =
        run(sipf().args(["verify", "--task", "arith", "--reference", "--limit", "1", "--threads", "0"]));
    assert_eq!(none.status, Some(2), "{none:?}");
}
