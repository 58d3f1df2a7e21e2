//! A reward model from labels to its figures on ProcessBench.

use serde_json::{Value, json};
use sipf_tests::{data, run, run_well, sipf};

use super::{labels, object, train};

#[test]
fn a_trained_reward_model_is_measured_on_process_bench_beside_trivial_guessers() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("prm");
    let rows = labels(folder.path(), 20);
    run_well(&mut train("reward train --plugin prm-tiny --max-steps 5 --batch-size 10", &rows, &out));
    let mut command = sipf();
    command.args(["reward", "eval", "--json", "--limit", "60", "--model"]).arg(&out);
    let figures = object(command.arg("--data").arg(data.join("prm/processbench_gsm8k.json")));
    assert_eq!(figures["rows"], 60);
    let share = |key: &str| figures[key].as_f64().unwrap_or_else(|| panic!("{key} in {figures}"));
    assert!((0.0..=1.0).contains(&share("f1")));
    // Never wrong misses every wrong path, so its harmonic mean is 0: a guesser that the F1 has to beat is another one.
    assert!(
        figures["trivial_f1"].as_object().unwrap().values().any(|f1| f1.as_f64() == Some(0.0)),
        "{figures}"
    );
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
            let found = ["labels", "labels_lost", "rows_with_lost_labels"].map(|key| report[key].clone());
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
