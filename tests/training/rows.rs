//! Shapes of rows, and rows that cannot be used.

use serde_json::json;
use sipf_tests::{run, run_well, workspace};

use super::{assert_same_files, labels, object, pairs, sft_rows, train, train_from, write_rows};

#[test]
fn bad_rows_stop_with_their_line_or_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (command, good, bad) in [
        ("sft", sft_rows(folder.path(), 5), json!({ "prompt": "Q", "completion": 3 })),
        ("align", pairs(folder.path(), 5), json!({ "prompt": "Q", "chosen": "a", "rejected": "" })),
        (
            "reward train",
            labels(folder.path(), 5),
            json!({ "prompt": "Q", "completions": ["a", "b"], "labels": [true] }),
        ),
    ] {
        let text = std::fs::read_to_string(&good).unwrap();
        std::fs::write(&good, format!("{text}\n{bad}\nnot JSON\n")).unwrap();
        let ran = run(&mut train(&format!("{command} --max-steps 1"), &good, &out));
        assert_eq!(ran.status, Some(2), "{command}: {}", ran.stderr);
        let name = good.file_name().unwrap().to_string_lossy().into_owned();
        // Lines are read before anything is tokenised, so the broken one may be met first.
        assert!(ran.stderr.contains(&format!("{name}, line ")), "{command}: {}", ran.stderr);
        assert!(!out.join("training.json").exists());
        let figures =
            object(train(&format!("{command} --eval-only --bad-rows skip"), &good, &out).arg("--json"));
        assert_eq!((&figures["rows"], &figures["skipped"]), (&json!(5), &json!(2)), "{command}");
    }
}

#[test]
fn parquet_rows_train_to_the_same_bytes_as_jsonl_rows() {
    let folder = tempfile::tempdir().unwrap();
    let rows = |name: &str, end: &str| workspace().join(format!("tests/fixtures/rows/{name}.{end}"));
    // A policy with a chat template, for rows that are conversations.
    let chat = folder.path().join("chat");
    run_well(&mut train("sft --max-steps 1", &rows("sft", "jsonl"), &chat));
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    std::fs::write(chat.join("chat_template.jinja"), template).unwrap();
    for (command, name) in [
        ("sft", "sft"),
        ("align --loss orpo", "pairs"),
        ("align --loss orpo", "chat_pairs"),
        ("reward train", "labels"),
        ("reward train", "soft_labels"),
    ] {
        let command = format!("{command} --max-steps 2 --batch-size 3 --learning-rate 1e-3");
        let [a, b] = ["jsonl", "parquet"].map(|end| {
            let out = folder.path().join(format!("{name}-{end}"));
            run_well(&mut train_from(&chat, &command, &rows(name, end), &out));
            out
        });
        assert_same_files(&a, &b);
    }
}

#[test]
fn math_shepherd_rows_train_a_reward_model() {
    let folder = tempfile::tempdir().unwrap();
    let rows = write_rows(&folder.path().join("shepherd.jsonl"), 6, |question, right, _| {
        let step = right.lines().next().unwrap();
        let text = |first: &str, second: &str| {
            format!("{question} Step 1: {step} {first}\nStep 2: The answer is: 3 {second}")
        };
        json!({ "input": text("ки", "ки"), "label": text("+", "-"), "task": "GSM8K" })
    });
    let out = folder.path().join("out");
    let report = object(train("reward train --max-steps 2 --batch-size 3", &rows, &out).arg("--json"));
    assert_eq!((&report["rows"], &report["steps"]), (&json!(6), &json!(2)));
    assert!(out.join("model.safetensors").is_file() && out.join("reward.json").is_file());
}

#[test]
fn rows_without_a_chat_template_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let rows = write_rows(
        &folder.path().join("chat.jsonl"),
        2,
        |question, right, _| json!({ "messages": [{ "role": "user", "content": question }, { "role": "assistant", "content": right }] }),
    );
    let ran = run(&mut train("sft --max-steps 1", &rows, &folder.path().join("out")));
    assert_eq!(ran.status, Some(2));
    assert!(
        ran.stderr.contains("chat.jsonl, line 1") && ran.stderr.contains("no chat template"),
        "{}",
        ran.stderr
    );
}
