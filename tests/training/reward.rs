//! A reward model from labels to its figures on ProcessBench.

use sipf_tests::{data, run_well, sipf};

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
