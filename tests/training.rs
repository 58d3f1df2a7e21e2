//! `sipf sft`, `sipf align` and `sipf reward train` through the binary.

mod evaluation; // rows to evaluate on, best weights, early stop, --eval-only
mod interrupted; // kill -9, Ctrl-C, a full disk: nothing is lost
mod peers; // what is written here loads in transformers and PEFT
mod reward; // a reward model and its figures
mod rows; // shapes of rows, and rows that cannot be used

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sipf_tests::{run_well, sipf};

/// `count` rows of simple sums, as lines of JSON made by `row(question, right answer, wrong answer)`.
fn write_rows(path: &Path, count: usize, row: impl Fn(&str, &str, &str) -> Value) -> PathBuf {
    let lines: Vec<String> = (0..count)
        .map(|number| {
            let (a, b) = (number % 7 + 1, number % 5 + 2);
            let question = format!("Q: Tom has {a} coins and gets {b}.\nA:\n");
            let right = format!("Tom has <<{a}+{b}={0}>>{0} coins.\n#### {0}", a + b);
            let wrong = format!("Tom has <<{a}*{b}={0}>>{0} coins in all.\n#### {0}", a * b + 1);
            row(&question, &right, &wrong).to_string()
        })
        .collect();
    std::fs::write(path, lines.join("\n")).unwrap();
    path.to_path_buf()
}

fn sft_rows(folder: &Path, count: usize) -> PathBuf {
    write_rows(
        &folder.join("sft.jsonl"),
        count,
        |question, right, _| json!({ "prompt": question, "completion": right }),
    )
}

fn pairs(folder: &Path, count: usize) -> PathBuf {
    write_rows(
        &folder.join("pairs.jsonl"),
        count,
        |question, right, wrong| json!({ "prompt": question, "chosen": right, "rejected": wrong }),
    )
}

fn labels(folder: &Path, count: usize) -> PathBuf {
    write_rows(&folder.join("labels.jsonl"), count, |question, right, wrong| {
        let right: Vec<&str> = right.lines().collect();
        json!({ "prompt": question, "completions": [right[0], wrong.lines().next()], "labels": [true, false] })
    })
}

/// A training command on the bundled policy, its first words split at spaces.
fn train(command: &str, data: &Path, out: &Path) -> Command {
    train_from("tiny".as_ref(), command, data, out)
}

/// The same from another model.
fn train_from(model: &Path, command: &str, data: &Path, out: &Path) -> Command {
    let mut sipf = sipf();
    sipf.args(command.split(' ')).args(["--threads", "1", "--model"]).arg(model);
    sipf.arg("--data").arg(data).arg("--out").arg(out);
    sipf
}

/// The JSON object that a command prints.
fn object(command: &mut Command) -> Value {
    serde_json::from_str(&run_well(command)).unwrap()
}

/// Lines of `metrics.jsonl`.
fn metrics(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Names and bytes of a folder's files, those that hold times aside.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with("events.out.tfevents"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Asserts equal names and bytes, naming what differs.
fn assert_same_files(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for ((name, a), (_, b)) in a.iter().zip(&b) {
        assert!(a == b, "{name} differs");
    }
}
