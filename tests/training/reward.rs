//! A reward model from labels to its figures on ProcessBench.

use serde_json::{Value, json};
use sipf_tests::{data, run, run_well, sipf};

use super::{labels, object, train};

/// ProcessBench's F1 (arXiv 2412.06559): the harmonic mean of the accuracies on rows with a wrong step, whose place must
/// be found, and on rows without (-1).
fn f1(truths: &[i64], guesses: &[i64]) -> f64 {
    let accuracy = |of: fn(i64) -> bool| {
        let rows: Vec<bool> =
            truths.iter().zip(guesses).filter(|(truth, _)| of(**truth)).map(|(a, b)| a == b).collect();
        rows.iter().filter(|hit| **hit).count() as f64 / rows.len() as f64
    };
    let (wrong, right) = (accuracy(|truth| truth >= 0), accuracy(|truth| truth < 0));
    if wrong + right > 0.0 { 2.0 * wrong * right / (wrong + right) } else { 0.0 }
}

#[test]
fn a_trained_reward_model_is_measured_on_process_bench_beside_trivial_guessers() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (out, scored) = (folder.path().join("prm"), folder.path().join("scores.jsonl"));
    let all = std::fs::read_to_string(data.join("prm/processbench_gsm8k.json")).unwrap();
    let all: Vec<Value> = serde_json::from_str(&all).unwrap();
    // The published file has its wrong solutions first.
    let rows: Vec<&Value> = all.iter().step_by(4).collect();
    let bench = folder.path().join("bench.json");
    std::fs::write(&bench, serde_json::to_string(&rows).unwrap()).unwrap();
    let truths: Vec<i64> = rows.iter().map(|row| row["label"].as_i64().unwrap()).collect();
    let rows = labels(folder.path(), 20);
    run_well(&mut train("reward train --plugin prm-tiny --max-steps 5 --batch-size 10", &rows, &out));
    let over = |command: &str| {
        let mut sipf = sipf();
        sipf.args(["reward", command, "--json", "--data"]).arg(&bench).arg("--model").arg(&out);
        sipf
    };
    run_well(over("score").arg("--out").arg(&scored));
    let scores: Vec<Vec<f64>> = std::fs::read_to_string(scored)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_value(serde_json::from_str::<Value>(line).unwrap()["scores"].take()).unwrap()
        })
        .collect();
    // So little training gives no useful threshold: one that calls half of the solutions right which the model can read.
    let mut least: Vec<f64> = scores
        .iter()
        .map(|scores| scores.iter().copied().fold(1.0, f64::min))
        .filter(|least| *least > 0.0)
        .collect();
    least.sort_by(f64::total_cmp);
    let threshold = least[least.len() / 2] as f32;
    let guesses = |guess: &dyn Fn(&[f64]) -> Option<usize>| -> Vec<i64> {
        scores.iter().map(|scores| guess(scores).map_or(-1, |place| place as i64)).collect()
    };
    let figures = object(over("eval").args(["--threshold", &threshold.to_string()]));
    assert_eq!(figures["rows"], 100);
    let by_hand = f1(&truths, &guesses(&|scores| scores.iter().position(|s| (*s as f32) < threshold)));
    assert!(
        by_hand > 0.0 && (figures["f1"].as_f64().unwrap() - by_hand).abs() < 1e-12,
        "{by_hand} {figures}"
    );
    let trivial = &figures["trivial_f1"];
    assert_eq!(trivial["always_right"], f1(&truths, &guesses(&|_| None)));
    assert_eq!(trivial["always_first"], f1(&truths, &guesses(&|_| Some(0))));
    assert_eq!(trivial["always_last"], f1(&truths, &guesses(&|scores| Some(scores.len() - 1))));
    assert!(trivial["random"].as_f64().unwrap() > 0.1, "{figures}");
    // The bundled models read 512 tokens; many of these solutions are longer, and every step beyond scores 0.
    let beyond = scores.iter().flatten().filter(|score| **score == 0.0).count();
    assert!(beyond > 0 && figures["steps_beyond"] == beyond, "{figures}");
}

#[test]
fn labels_beyond_the_longest_sequence_are_counted_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = labels(folder.path(), 4);
    let text = std::fs::read_to_string(&data).unwrap();
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in &mut rows[..2] {
        let steps = row["completions"].as_array_mut().unwrap();
        steps.extend([json!("and then so on ".repeat(40)), json!("to the end")]);
        row["labels"] = json!([true, false, true, true]);
    }
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(&data, lines.join("\n")).unwrap();
    let told = "of 2 rows lie beyond --max-length 96 and are not trained on";
    for (more, labels, lost) in [("", 8, 4), (" --last-step-only", 2, 2)] {
        let command = format!("reward train --max-steps 1 --max-length 96{more}");
        let out = folder.path().join(format!("prm{lost}"));
        let ran = run(train(&command, &data, &out).arg("--json"));
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("{lost} labels {told}")), "{}", ran.stderr);
        let kept = std::fs::read_to_string(out.join("training.json")).unwrap();
        for report in [&ran.stdout, &kept].map(|text| serde_json::from_str::<Value>(text).unwrap()) {
            let found = ["labels", "labels_lost", "cut_rows"].map(|key| report[key].clone());
            assert_eq!(found, [json!(labels), json!(lost), json!(2)], "{report}");
        }
        let words = run_well(&mut train(&command, &data, &out));
        assert!(words.contains(&format!("labels {labels}, labels lost {lost}")), "{words}");
    }
    let whole = run(train("reward train --eval-only", &data, &folder.path().join("none")).arg("--json"));
    let figures: Value = serde_json::from_str(&whole.stdout).unwrap();
    assert_eq!((&figures["labels"], &figures["labels_lost"]), (&json!(12), &json!(0)), "{figures}");
    assert!(!whole.stderr.contains("beyond"), "{}", whole.stderr);
}
