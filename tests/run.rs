//! `sipf run` and `sipf plan`: the whole loop, small; killed and gone on with; bad input.
//!
//! `SIPF_TEST_KILLS=20 cargo test --release -p sipf-tests killed_run` kills a run twenty times instead of two.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sipf_tests::{Ran, kills, run, run_well, sipf};

/// A run of all stages in seconds: two iterations and the control.
fn small(folder: &Path) -> Command {
    let mut command = sipf();
    command.args(["run", "--limit", "24", "--iterations", "2", "--set", "sft.epochs=30"]);
    // So small a model is never right: pairs by margin alone give it something to learn from.
    command.args(["--pair-policy", "margin_only", "--margin", "0.01", "--run-dir"]);
    command.arg(folder);
    command
}

/// Every file of a run folder but those that hold times.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                walk(root, &path, found);
            } else if name != "timings.json" && !name.contains("events.out.") && !name.ends_with(".log") {
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

fn same(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    let names = |of: &BTreeMap<String, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs");
    }
}

/// Starts a command, kills it after a while as `kill -9` does, and says whether it was still at work.
fn killed_after(command: &mut Command, wait: Duration) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(wait);
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes_and_a_finished_one_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, torn) = (folder.path().join("whole"), folder.path().join("torn"));
    let started = Instant::now();
    let outcome: Value = serde_json::from_str(&run_well(small(&whole).arg("--json"))).unwrap();
    let took = started.elapsed();
    assert_eq!(outcome["iterations"].as_array().unwrap().len(), 2);
    for key in ["accuracy", "sampled_accuracy", "problems", "measures"] {
        assert!(
            !outcome["baseline"][key].is_null() && !outcome["control"][key].is_null(),
            "{key}: {outcome}"
        );
    }
    assert!(outcome["baseline"]["measures"]["fully_right"].is_number());
    for file in ["report.html", "iter-2/policy/model.safetensors", "control/eval.json", "reward/quality.json"]
    {
        assert!(whole.join(file).is_file(), "{file}");
    }
    let kills = kills();
    // About an equal share of the run each, between half and one and a half of it.
    let scattered = |kill: usize| (0.5 + (kill * 7 % kills) as f64 / kills as f64) / (kills + 1) as f64;
    let met =
        (1..=kills).filter(|kill| killed_after(&mut small(&torn), took.mul_f64(scattered(*kill)))).count();
    assert!(met >= kills.div_ceil(2), "only {met} of {kills} kills met a run at work");
    run_well(&mut small(&torn));
    same(&whole, &torn);
    let before = std::fs::metadata(whole.join("sft/model.safetensors")).unwrap().modified().unwrap();
    run_well(&mut small(&whole));
    same(&whole, &torn);
    let after = std::fs::metadata(whole.join("sft/model.safetensors")).unwrap().modified().unwrap();
    assert_eq!(before, after, "a finished stage is not made again");
}

#[test]
fn a_changed_setting_remakes_only_what_depends_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let short = |margin: &str| {
        let mut command = sipf();
        command.args(["run", "--limit", "16", "--iterations", "1", "--no-control", "--margin", margin]);
        command.args(["--set", "sft.epochs=30", "--run-dir"]).arg(&place);
        run_well(&mut command);
    };
    let keys = || -> BTreeMap<String, Value> {
        let text = std::fs::read_to_string(place.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let stages = manifest["stages"].as_object().unwrap().clone();
        stages.into_iter().map(|(name, stage)| (name, stage["key"].clone())).collect()
    };
    short("0.3");
    let before = keys();
    short("0.05");
    let changed: Vec<String> = keys()
        .into_iter()
        .filter(|(name, key)| before.get(name) != Some(key))
        .map(|(name, _)| name)
        .collect();
    assert!(changed.contains(&"iter-1/pairs".to_owned()), "{changed:?}");
    assert!(changed.iter().all(|name| name.starts_with("iter-1/")), "{changed:?}");
    assert!(!changed.contains(&"iter-1/score".to_owned()), "{changed:?}");
    let text = std::fs::read_to_string(place.join("run.toml")).unwrap();
    assert!(text.contains("margin = 0.05"), "{text}");
    let ran = run(sipf().args(["run", "--resume", "--run-dir"]).arg(&place));
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("sft: "), "going on with a finished run trains nothing: {}", ran.stderr);
}

#[test]
fn a_folder_holds_only_what_its_settings_call_for_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let tiny = |iterations: &str, control: &str| {
        let mut command = sipf();
        command.args([
            "run",
            "--limit",
            "8",
            "--rollouts",
            "2",
            "--set",
            "sft.epochs=1",
            "--iterations",
            iterations,
        ]);
        command.args(["--pair-policy", "margin_only", "--margin", "0.0001", "--set", "sample.max-tokens=24"]);
        command.args([
            "--set",
            "evaluate.max-tokens=24",
            "--set",
            "simulate.max-tokens=24",
            control,
            "--run-dir",
        ]);
        let ran = run(command.arg(&place));
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        ran.stderr
    };
    tiny("2", "--control");
    let before = contents(&place);
    let told = tiny("1", "--no-control");
    assert!(told.contains("kept in superseded/"), "{told}");
    for name in ["iter-2", "control", "iter-1/samples.jsonl"] {
        assert!(!place.join(name).exists(), "{name} is of other settings");
    }
    let manifest = std::fs::read_to_string(place.join("manifest.json")).unwrap();
    assert!(!manifest.contains("iter-2") && !manifest.contains("control/"), "{manifest}");
    let told = tiny("2", "--control");
    assert!(
        !told.contains("sft: ") && !told.contains("policy: "),
        "what was trained before is taken back: {told}"
    );
    let after = contents(&place);
    for (name, bytes) in &before {
        assert!(after.get(name) == Some(bytes), "{name} differs");
    }
}

#[test]
fn a_program_task_runs_through_the_loop_and_its_programs_through_the_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let mut command = sipf();
    command.args([
        "run",
        "--task",
        "pyfunc",
        "--plugin",
        "prm-deepseek",
        "--model",
        "tiny",
        "--simulator",
        "tiny",
    ]);
    command.args(["--reward-base", "tiny", "--limit", "6", "--iterations", "1", "--rollouts", "2"]);
    command.args(["--set", "sample.max-tokens=48", "--set", "simulate.max-tokens=48", "--set"]);
    command.args(["evaluate.max-tokens=48", "--json", "--run-dir"]).arg(&place);
    let outcome: Value = serde_json::from_str(&run_well(&mut command)).unwrap();
    assert_eq!(outcome["iterations"].as_array().unwrap().len(), 1);
    let samples = std::fs::read_to_string(place.join("iter-0/samples.jsonl")).unwrap();
    let rows: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.iter().all(|row| row["verdict"].is_string()), "every program got a verdict of the sandbox");
}

fn refused(arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(sipf()
        .args(arguments)
        .current_dir(folder.path())
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", folder.path()));
    assert_eq!(ran.status, Some(2), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{arguments:?} left something behind");
    ran
}

#[test]
fn what_is_missing_is_named_with_a_smaller_command_that_works() {
    let started = Instant::now();
    let ran = refused(&["run", "--task", "mbpp", "--plugin", "prm-deepseek", "--run-dir", "my run"]);
    assert!(ran.stderr.contains("--run-dir 'my run'"), "{}", ran.stderr);
    assert!(started.elapsed() < Duration::from_secs(30));
    for text in
        ["google/gemma-2b", "deepseek-ai/deepseek-coder-6.7b-instruct", "memory", "sipf run --task pyfunc"]
    {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
}

#[test]
fn bad_settings_are_refused_by_name_before_anything_starts() {
    for (arguments, said) in [
        (["run", "--set", "align.betta=1"], "align.beta"),
        (["run", "--set", "iterations=many"], "iterations"),
        (["run", "--method", "star"], "not yet"),
        (["run", "--recipe", "huge"], "gsm8k-gemma-2b"),
        (["run", "--task", "gsm9k"], "gsm8k"),
        (["run", "--limit", "0"], "--limit"),
    ] {
        let ran = refused(&arguments);
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    let ran = run(sipf().args(["run", "--limit", "4", "--run-dir"]).arg(folder.path()));
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("no run folder"), "{}", ran.stderr);
}

#[test]
fn the_plan_names_every_stage_and_the_dry_run_where_each_setting_came_from() {
    let plan: Value = serde_json::from_str(&run_well(sipf().args(["plan", "--json"]))).unwrap();
    let names: Vec<&str> =
        plan["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    for name in
        ["sft", "iter-0/sample", "iter-0/simulate", "reward", "iter-3/policy", "control", "iter-3/evaluate"]
    {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(plan["total"]["seconds"].as_f64().unwrap() > 0.0);
    let dry: Value =
        serde_json::from_str(&run_well(sipf().args(["run", "--dry-run", "--json", "--margin", "0.4"])))
            .unwrap();
    let from = |key: &str| dry["settings"][key]["from"].as_str().unwrap().to_owned();
    assert_eq!(from("pairs.margin"), "flag");
    assert_eq!(from("align.beta"), "recipe tiny");
    assert_eq!(from("seed"), "default");
}

#[test]
fn what_a_run_skips_is_said_in_its_log_its_summary_its_manifest_and_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let mut command = sipf();
    command.args(["run", "--limit", "3", "--iterations", "1", "--control", "--set", "pairs.margin=9"]);
    let ran = run(command.args(["--json", "--run-dir"]).arg(&place));
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let outcome: Value = serde_json::from_str(&ran.stdout).unwrap();
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(place.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["skipped"], outcome["skipped"]);
    let report = std::fs::read_to_string(place.join("report.html")).unwrap();
    for (stage, why) in [("iter-1/policy", "nothing to learn from"), ("control", "no steps to match")] {
        let said = outcome["skipped"][stage].as_str().unwrap();
        assert!(said.contains(why), "{stage}: {said}");
        assert!(
            ran.stderr.contains(&format!("{stage}: skipped: {why}")) || ran.stderr.contains(said),
            "{}",
            ran.stderr
        );
        assert!(report.contains(&format!("<strong>{stage}</strong>: {said}")), "{stage} in the report");
    }
    assert!(outcome.get("control").is_none());
    // Given again, the finished run says the same.
    let again = run(sipf().args(["run", "--resume", "--run-dir"]).arg(&place));
    assert!(again.stdout.contains("control was skipped: "), "{again:?}");
}
