//! Evaluating while training, keeping the best, and evaluating only.

use super::{metrics, object, pairs, sft_rows, train};
use sipf_tests::{run, run_well};

#[test]
fn evaluation_goes_into_the_metrics_and_the_best_weights_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (sft_rows(folder.path(), 12), folder.path().join("out"));
    let mut command = train(
        "sft --max-steps 8 --batch-size 4 --learning-rate 2e-3 --eval-steps 2 --keep-best --early-stop 2 --json",
        &data,
        &out,
    );
    let report = object(command.arg("--eval-data").arg(&data));
    let losses: Vec<f64> = metrics(&out).iter().filter_map(|line| line["eval_loss"].as_f64()).collect();
    assert_eq!(losses.len(), 4, "three during and one at the end");
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(report["best"][1], least);
    assert!(metrics(&out).iter().any(|line| line["mean_token_accuracy"].is_f64()));
    // What was saved is what was best.
    let mut again = sipf_tests::sipf();
    again.args(["sft", "--eval-only", "--model"]).arg(&out).arg("--data").arg(&data);
    let loss = object(&mut again)["loss"].as_f64().unwrap();
    assert!((loss - least).abs() < 1e-5, "{loss} {least}");
    let events = std::fs::read_dir(&out)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("tfevents"))
        .count();
    assert_eq!(events, 1);
}

#[test]
fn every_loss_evaluates_without_training_under_trl_s_names() {
    let folder = tempfile::tempdir().unwrap();
    let data = pairs(folder.path(), 5);
    let names =
        ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen"];
    for (loss, more) in [
        ("orpo", &["nll_loss", "log_odds_ratio", "log_odds_chosen", "logits/chosen"][..]),
        ("dpo", &["logits/rejected"]),
        ("rpo", &["nll_loss"]),
    ] {
        let mut command = sipf_tests::sipf();
        command.args([
            "align",
            "--loss",
            loss,
            "--eval-only",
            "--model",
            "tiny",
            "--batch-size",
            "2",
            "--data",
        ]);
        let figures = object(command.arg(&data));
        assert_eq!(figures["rows"], 5);
        for name in names.iter().chain(more).chain(&["loss"]) {
            assert!(figures[name].is_f64(), "{loss}: {name} in {figures}");
        }
    }
    let mut command = sipf_tests::sipf();
    command.args(["align", "--loss", "sft", "--eval-only", "--model", "tiny", "--data"]).arg(&data);
    assert!(object(&mut command)["loss"].is_f64(), "the chosen halves alone");
}

#[test]
fn settings_come_from_flag_config_and_default_in_this_order() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (pairs(folder.path(), 5), folder.path().join("orpo.toml"));
    std::fs::write(&config, "loss = \"orpo\"\nbeta = 0.5\nbatch-size = 3\nmodel = \"tiny\"\nmax-steps = 7\n")
        .unwrap();
    let mut command = sipf_tests::sipf();
    command.args(["align", "--dry-run", "--json", "--max-steps", "4", "--config"]).arg(&config);
    let plan = object(command.arg("--data").arg(&data));
    assert_eq!(plan["steps"], 4);
    let file = format!("config {}", config.display());
    for (key, value, from) in [
        ("batch-size", 3.into(), file.as_str()),
        ("max-steps", 4.into(), "flag"),
        ("beta", 0.5.into(), file.as_str()),
    ] {
        let key: &str = key;
        let value: serde_json::Value = value;
        assert_eq!(
            (&plan["settings"][key]["value"], &plan["settings"][key]["from"]),
            (&value, &from.into()),
            "{key}"
        );
    }
    assert_eq!(plan["settings"]["nll-scope"]["from"], "default");
    std::fs::write(&config, "betta = 0.5\n").unwrap();
    let ran = run(sipf_tests::sipf().args(["align", "--dry-run", "--config"]).arg(&config));
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("betta"), "{}", ran.stderr);
    run_well(sipf_tests::sipf().args(["align", "--help"]));
}
