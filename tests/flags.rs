//! Flags that many commands have act in each of them: how much is said, how much is done, on what, and beside what.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sipf_tests::{run, run_well, sipf, workspace};

fn evaluate(more: &[&str]) -> Command {
    let mut command = sipf();
    command.args(["evaluate", "--task", "arith", "--model", "tiny-strong"]).args(more);
    command
}

#[test]
fn quiet_says_only_what_went_wrong_and_where_nobody_watches_lines_are_plain() {
    let normal = run(&mut evaluate(&["--limit", "2"]));
    assert!(normal.stderr.contains("evaluate: 2/2 problems"), "{}", normal.stderr);
    assert!(!normal.stderr.contains(['\r', '\x1b']), "{:?}", normal.stderr);
    let quiet = run(&mut evaluate(&["--limit", "2", "-q"]));
    assert_eq!((quiet.status, quiet.stderr.as_str()), (Some(0), ""));
    assert_eq!(quiet.stdout, normal.stdout);
    let more = run(&mut evaluate(&["--limit", "2", "-v"]));
    assert!(more.stderr.contains("device: the CPU"), "{}", more.stderr);
    assert_eq!(more.stdout, normal.stdout);
    // What went wrong is said all the same.
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    std::fs::write(&rows, "no JSON\n").unwrap();
    let mut verify = sipf();
    verify.args(["verify", "-q", "--task", "arith", "--out", "/dev/null", "--completions"]).arg(&rows);
    assert!(run(&mut verify).stderr.contains("rows.jsonl, line 1"));
    let both = run(sipf().args(["task", "list", "-q", "-v"]));
    assert_eq!(both.status, Some(2), "{both:?}");
}

#[test]
fn color_decides_about_help_and_errors() {
    let told = |arguments: &[&str]| {
        let ran = run(sipf().args(arguments));
        ran.stdout + &ran.stderr
    };
    assert!(told(&["--color", "always", "--help"]).contains('\x1b'));
    assert!(told(&["task", "--color=always", "list", "--no-such"]).contains('\x1b'));
    assert!(!told(&["--color", "never", "--help"]).contains('\x1b'));
}

#[test]
fn all_splits_are_one_set_of_problems() {
    let folder = tempfile::tempdir().unwrap();
    let task = workspace().join("tests/fixtures/sums.py");
    // A task that takes every split's rows from the file that is given.
    let rows = folder.path().join("rows.jsonl");
    std::fs::write(&rows, "{\"a\": 1, \"b\": 2}\n{\"a\": 2, \"b\": 2}\n").unwrap();
    let verify = |split: &str| -> Value {
        let mut command = sipf();
        command.args(["verify", "--reference", "--json", "--split", split, "--task"]).arg(&task);
        serde_json::from_str(&run_well(command.arg("--data").arg(&rows))).unwrap()
    };
    assert_eq!((verify("train")["total"].clone(), verify("all")["total"].clone()), (json!(2), json!(6)));
    let mut asked = sipf();
    asked.args([
        "evaluate",
        "--model",
        "tiny-strong",
        "--max-tokens",
        "4",
        "--split",
        "all",
        "--json",
        "--task",
    ]);
    asked.arg(&task).arg("--data").arg(&rows);
    let found: Value = serde_json::from_str(&run_well(&mut asked)).unwrap();
    assert_eq!(found["results"]["sums"]["problems"], json!(6), "{found}");
    let mut export = sipf();
    export.args(["task", "export", "--split", "all", "--data"]).arg(&rows).arg(&task);
    assert_eq!(run_well(&mut export).lines().count(), 6);
    let wrong = run(&mut evaluate(&["--split", "dev", "--limit", "1"]));
    assert!(wrong.status == Some(2) && wrong.stderr.contains("train, validation, test and all"), "{wrong:?}");
}

#[test]
fn a_dry_evaluation_says_how_much_it_is_and_asks_nothing() {
    let ran = run(&mut evaluate(&[
        "--limit",
        "5",
        "--samples",
        "3",
        "--max-tokens",
        "10",
        "--top-p",
        "0.9",
        "--dry-run",
        "--json",
    ]));
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&plan["rows_in"], &plan["completions"]), (&json!(5), &json!(20)));
    assert_eq!(plan["tokens_at_most"], json!(200));
    assert_eq!(plan["settings"]["samples"]["from"], "flag");
    assert_eq!(plan["settings"]["top-p"]["value"], json!(0.9), "as it was said, not as 32 bits hold it");
}

#[test]
fn a_batch_ends_at_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, out) = (folder.path().join("rows.jsonl"), folder.path().join("out.jsonl"));
    let program =
        json!({"id": 0, "program": "def f(x): return x", "tests": ["assert f(1) == 1"]}).to_string();
    std::fs::write(&rows, format!("{program}\n\nno JSON\n{program}\n{program}\n")).unwrap();
    let mut batch = sipf();
    batch.args(["sandbox", "batch", "--json", "--limit", "3"]).arg(&rows).arg("--out").arg(&out);
    let counts: Value = serde_json::from_str(&run(&mut batch).stdout).unwrap();
    assert_eq!((&counts["total"], &counts["bad_lines"]), (&json!(2), &json!(1)), "{counts}");
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 2);
}

#[test]
fn task_show_takes_its_sample_from_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("test.jsonl");
    let row = json!({"question": "How many legs have 7 cats?", "answer": "7*4=<<7*4=28>>28\n#### 28"});
    std::fs::write(&data, row.to_string()).unwrap();
    let mut show = sipf();
    let shown: Value =
        serde_json::from_str(&run_well(show.args(["task", "show", "gsm8k", "--json", "--data"]).arg(&data)))
            .unwrap();
    assert_eq!(shown["problem"]["question"], row["question"]);
    assert_eq!(shown["problem"]["id"], "gsm8k/test/0");
    let ran = run(sipf().args(["task", "show", "gsm8k", "--data", "no/such/place"]));
    assert!(ran.status == Some(2) && ran.stderr.contains("no/such/place"), "{ran:?}");
}

/// An adapter on tiny-strong that was trained for some steps.
fn adapter(folder: &Path) -> PathBuf {
    let (rows, out) = (folder.join("rows.jsonl"), folder.join("adapter"));
    let row = json!({"prompt": "Tom has 3 apples", "completion": " and no pears\n"}).to_string();
    std::fs::write(&rows, format!("{row}\n").repeat(4)).unwrap();
    let mut train = sipf();
    train.args([
        "sft",
        "--model",
        "tiny-strong",
        "--lora-r",
        "4",
        "--max-steps",
        "6",
        "--learning-rate",
        "0.05",
    ]);
    run_well(train.arg("--data").arg(&rows).arg("--out").arg(&out));
    out
}

#[test]
fn a_run_begins_with_the_adapter_on_its_model_and_trains_it_on() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = adapter(folder.path());
    let run_with = |name: &str, more: &[&str]| {
        let place = folder.path().join(name);
        let mut command = sipf();
        command.args([
            "run",
            "--model",
            "tiny-strong",
            "--limit",
            "2",
            "--iterations",
            "0",
            "--no-control",
            "--run-dir",
        ]);
        run_well(command.arg(&place).args(more));
        place
    };
    let given = adapter.to_str().unwrap();
    let bare = run_with("bare", &["--set", "sft.enabled=false"]);
    let adapted = run_with("adapted", &["--set", "sft.enabled=false", "--adapter", given]);
    let answers = |place: &Path| std::fs::read_to_string(place.join("iter-0/samples_arith.jsonl")).unwrap();
    assert_ne!(answers(&bare), answers(&adapted), "the adapter changes no answer");
    let inputs = |place: &Path| -> Value {
        let text = std::fs::read_to_string(place.join("manifest.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["inputs"]["model tiny-strong"].clone()
    };
    assert_ne!(inputs(&bare), inputs(&adapted));
    let trained = run_with("trained", &["--adapter", given]);
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    assert!(!trained.join("sft/model.safetensors").exists(), "the adapter alone is trained");
    assert_ne!(
        read(trained.join("sft/adapter_model.safetensors")),
        read(adapter.join("adapter_model.safetensors"))
    );
    let ran = run(sipf().args(["run", "--adapter"]).arg(folder.path()));
    assert!(ran.status == Some(2) && ran.stderr.contains("adapter_config.json"), "{ran:?}");
}
