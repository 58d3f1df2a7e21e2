//! `sipf evaluate`: the same answers however they are made, lm-eval's files, and what is refused.

use std::path::Path;

use serde_json::Value;
use sipf_tests::{run, run_well, sipf};

fn evaluate(more: &[&str]) -> std::process::Command {
    let mut command = sipf();
    command.args(["evaluate", "--task", "arith", "--model", "tiny-strong", "--limit", "20", "--json"]);
    command.args(more);
    command
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The only file of the folder with this beginning.
fn file(folder: &Path, start: &str) -> String {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> =
        names.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(start)).collect();
    assert_eq!(found.len(), 1, "{start}: {found:?}");
    std::fs::read_to_string(&found[0]).unwrap()
}

#[test]
fn the_bundled_model_is_evaluated_and_the_numbers_agree_with_the_rows() {
    let out = tempfile::tempdir().unwrap();
    let printed = run_well(evaluate(&["--samples", "4"]).arg("--out").arg(out.path()));
    let found = &json(&printed)["results"]["arith"];
    assert_eq!(found["problems"], 20);
    // It has learned the task: far from nothing, far from chance.
    assert!(found["accuracy"].as_f64().unwrap() >= 0.5, "{found}");
    let rows: Vec<Value> = file(out.path(), "samples_arith_").lines().map(json).collect();
    assert_eq!(rows.len(), 20);
    let share = |right: &dyn Fn(&Value) -> f64| rows.iter().map(right).sum::<f64>() / 20.0;
    assert_eq!(found["accuracy"], share(&|row| row["exact_match"].as_f64().unwrap()));
    let samples = |row: &Value| row["samples"].as_array().unwrap().clone();
    let right = |sample: &Value| f64::from(u8::from(sample["passed"].as_bool().unwrap()));
    let mean = |row: &Value| samples(row).iter().map(right).sum::<f64>() / 4.0;
    assert!((found["sampled_accuracy"].as_f64().unwrap() - share(&mean)).abs() < 1e-12);
    let any = |row: &Value| samples(row).iter().map(right).fold(0.0, f64::max);
    assert!((found["pass_at_k"]["4"].as_f64().unwrap() - share(&any)).abs() < 1e-12);
    let fully = &found["measures"]["fully_right"];
    assert!(fully["greedy"].as_f64() <= found["accuracy"].as_f64(), "{found}");
    assert!(fully["sampled"].is_number() && found["majority"].is_number(), "{found}");
    for rule in ["sipf", "strict", "flexible"] {
        assert!(found["by_rule"][rule].is_number(), "{rule}");
    }
    let results = json(&file(out.path(), "results_"));
    assert_eq!(results["results"]["arith"]["exact_match,sipf"], found["accuracy"]);
    assert!(
        !std::fs::read_dir(out.path())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(".journal") })
    );
}

#[test]
fn batch_threads_and_cache_change_nothing() {
    let plain = run_well(&mut evaluate(&["--samples", "2"]));
    let other = ["--samples", "2", "--batch-size", "3", "--threads", "1", "--cache-mib", "8"];
    assert_eq!(run_well(&mut evaluate(&other)), plain);
    assert_ne!(run_well(&mut evaluate(&["--samples", "2", "--seed", "7"])), plain);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_flag_to_change() {
    for (more, word) in [
        (vec!["--no-greedy"], "--samples"),
        (vec!["--samples", "2", "--temperature", "0"], "temperature"),
        (vec!["--rule", "nearly"], "nearly"),
        (vec!["--few-shot"], "worked examples"),
        (vec!["--split", "validation"], "validation"),
        (vec!["--reward", "nowhere"], "--reward nowhere"),
        (vec!["--reward", "tiny-strong"], "--samples"),
    ] {
        let ran = run(&mut evaluate(&more));
        assert_eq!(ran.status, Some(2), "{more:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word) && ran.stdout.is_empty(), "{more:?}: {}", ran.stderr);
    }
    let ran = run(sipf().args(["evaluate", "--task", "arith", "--model", "tiny-strong"]));
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("--limit"), "{}", ran.stderr);
}
