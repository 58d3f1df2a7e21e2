//! Checkpoints written here give the same numbers in transformers and PEFT. `SIPF_PEER_PYTHON` names a Python that has
//! torch, transformers and peft; without it these tests say that they were skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sipf_tests::{run_well, sipf, skipped, workspace};

use super::{labels, object, pairs, sft_rows, train};

const IDS: &str = "1,20,30,45,100,7,8,300,639,2";

fn python() -> Option<PathBuf> {
    let python = std::env::var_os("SIPF_PEER_PYTHON").map(PathBuf::from);
    if python.is_none() {
        skipped(
            "SIPF_PEER_PYTHON names no Python with torch, transformers and peft: checkpoints are not loaded there",
        );
    }
    python
}

fn peer(python: &Path, words: &[&std::ffi::OsStr]) -> Value {
    let mut command = Command::new(python);
    command.arg(workspace().join("tests/peers/train_checkpoints.py")).args(words);
    // Nothing is looked up on a network.
    object(command.env("HF_HUB_OFFLINE", "1").env("CUDA_VISIBLE_DEVICES", ""))
}

fn assert_close(a: &Value, b: &Value) {
    let flat = |value: &Value| -> Vec<f64> {
        let rows = value.as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
        rows.map(|number| number.as_f64().unwrap()).collect()
    };
    let (a, b) = (flat(a), flat(b));
    assert_eq!(a.len(), b.len());
    let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 2e-4, "off by {off}");
}

#[test]
fn a_model_trained_here_gives_the_same_logits_in_transformers() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (command, data) in [("align", pairs(folder.path(), 6)), ("sft", sft_rows(folder.path(), 6))] {
        let out = folder.path().join(command);
        run_well(&mut train(&format!("{command} --max-steps 3 --learning-rate 1e-3"), &data, &out));
        let ours = object(sipf().args(["model", "logits", "--json", "--ids", IDS, "--model"]).arg(&out));
        let theirs = peer(&python, &["causal".as_ref(), out.as_os_str(), IDS.as_ref()]);
        assert_close(&ours["logits"], &theirs["logits"]);
    }
}

#[test]
fn an_adapter_trained_here_gives_the_same_logits_in_peft() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (base, out) = (folder.path().join("base"), folder.path().join("adapter"));
    let rows = sft_rows(folder.path(), 6);
    run_well(&mut train("sft --max-steps 1 --learning-rate 1e-3", &rows, &base));
    let mut command = sipf();
    command.args(
        "align --max-steps 3 --learning-rate 1e-2 --lora-r 4 --lora-targets all-linear --rslora".split(' '),
    );
    command.arg("--data").arg(pairs(folder.path(), 6)).arg("--model").arg(&base).arg("--out").arg(&out);
    run_well(&mut command);
    let ours = object(
        sipf()
            .args(["model", "logits", "--json", "--ids", IDS, "--model"])
            .arg(&base)
            .arg("--adapter")
            .arg(&out),
    );
    let words = ["adapter".as_ref(), base.as_os_str(), out.as_os_str(), IDS.as_ref()];
    assert_close(&ours["logits"], &peer(&python, &words)["logits"]);
}

#[test]
fn a_reward_model_trained_here_gives_the_same_scores_in_transformers() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (rows, out, scored) =
        (labels(folder.path(), 6), folder.path().join("prm"), folder.path().join("scores.jsonl"));
    run_well(&mut train("reward train --max-steps 3 --learning-rate 1e-3", &rows, &out));
    let mut command = sipf();
    command.args(["reward", "score", "--model"]).arg(&out).arg("--data").arg(&rows).arg("--out").arg(&scored);
    run_well(&mut command);
    let ours: Vec<Value> = std::fs::read_to_string(&scored)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["scores"].clone())
        .collect();
    let theirs = peer(&python, &["classifier".as_ref(), out.as_os_str(), rows.as_os_str()]);
    assert_close(&Value::Array(ours), &theirs["scores"]);
}
