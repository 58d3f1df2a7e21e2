//! `sipf sample`, `simulate`, `reward train`, `reward score` and `align pairs`, each on what the one before wrote.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sipf_tests::{run, run_well, sipf, skipped, with_little_space, workspace};

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn summary(command: &mut Command) -> Value {
    serde_json::from_str(&run_well(command.arg("--json"))).unwrap()
}

/// Starts a stage and ends it with `signal` once its journal holds something; gives the exit status.
#[cfg(unix)]
fn stopped(command: &mut Command, out: &Path, signal: &str) -> Option<i32> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let journal = out.with_file_name(format!("{}.journal", out.file_name().unwrap().to_str().unwrap()));
    let started = Instant::now();
    while std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count()) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be stopped");
        assert!(started.elapsed() < Duration::from_secs(300), "nothing was written to {}", journal.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    run_well(Command::new("kill").args([signal, &child.id().to_string()]));
    child.wait().unwrap().code()
}

fn sample(out: &Path) -> Command {
    let mut command = sipf();
    command.args("sample --task arith --model tiny-strong --limit 40 --samples-per-question 16".split(' '));
    command.args(["--positives", "3", "--negatives", "3", "--out"]).arg(out);
    command
}

fn simulate(samples: &Path, out: &Path) -> Command {
    let mut command = sipf();
    command
        .args("simulate --task arith --simulator tiny-strong --paths-per-question 0 --rollouts 4".split(' '));
    command.arg("--data").arg(samples).arg("--out").arg(out);
    command
}

#[test]
#[cfg(unix)]
fn each_stage_reads_what_the_one_before_wrote_and_a_stopped_one_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bytes = |name: &str| std::fs::read(at(name)).unwrap();

    let told = summary(&mut sample(&at("samples.jsonl")));
    let samples = rows(&at("samples.jsonl"));
    assert_eq!(told["rows_in"], 40);
    assert_eq!(told["rows_out"], samples.len());
    assert_eq!(told["attempts"], samples.len());
    let kept = samples.iter().filter(|row| row["kept"] == true).count();
    assert_eq!(told["kept_right"].as_u64().unwrap() + told["kept_wrong"].as_u64().unwrap(), kept as u64);
    for row in samples.iter().filter(|row| row["kept"] == true) {
        let (text, steps) = (row["completion"].as_str().unwrap(), row["steps"].as_array().unwrap());
        let end = steps.last().map_or(0, |step| step["end"].as_u64().unwrap() as usize);
        assert!(end <= text.len() && row["prompt"].as_str().unwrap().starts_with("Q: "));
    }
    // Killed, and given again.
    assert_eq!(stopped(&mut sample(&at("again.jsonl")), &at("again.jsonl"), "-KILL"), None);
    assert!(!at("again.jsonl").exists());
    assert_eq!(summary(&mut sample(&at("again.jsonl")))["rows_out"], told["rows_out"]);
    assert_eq!(bytes("again.jsonl"), bytes("samples.jsonl"));
    assert!(!at("again.jsonl.journal").exists());
    // Given once more: nothing changes.
    let before = std::fs::metadata(at("again.jsonl")).unwrap().modified().unwrap();
    assert_eq!(summary(&mut sample(&at("again.jsonl")))["rows_out"], told["rows_out"]);
    assert_eq!(std::fs::metadata(at("again.jsonl")).unwrap().modified().unwrap(), before);

    let told = summary(&mut simulate(&at("samples.jsonl"), &at("labels.jsonl")));
    let labels = rows(&at("labels.jsonl"));
    assert_eq!(told["rows_out"], labels.len());
    assert!(told["rollouts"].as_u64() < told["full_rollouts"].as_u64());
    assert!(told["too_easy_to_guess"].as_u64().unwrap() > 0, "two-way questions are left out");
    assert!(told["gold"].as_u64().unwrap() > 0);
    for row in &labels {
        let length = |key: &str| row[key].as_array().unwrap().len();
        assert!(length("labels") == length("completions") && length("steps") == length("labels"));
        for step in row["steps"].as_array().unwrap() {
            let [tried, right] = ["tried", "right"].map(|key| step[key].as_u64().unwrap());
            // The threshold is 0: the first right rollout decides, or all four are wrong.
            assert!(row["simulator"] == "gold" || (right, tried) == (0, 4) || (right == 1 && tried <= 4));
        }
    }
    // Ctrl-C, and given again.
    let interrupted = stopped(&mut simulate(&at("samples.jsonl"), &at("l.jsonl")), &at("l.jsonl"), "-INT");
    assert_eq!(interrupted, Some(130));
    run_well(&mut simulate(&at("samples.jsonl"), &at("l.jsonl")));
    assert_eq!(bytes("l.jsonl"), bytes("labels.jsonl"));

    let train = "reward train --plugin prm-tiny --model tiny-strong --max-steps 2 --batch-size 4";
    run_well(
        sipf().args(train.split(' ')).arg("--data").arg(at("labels.jsonl")).arg("--out").arg(at("reward")),
    );
    let mut score = sipf();
    score.args(["reward", "score", "--model"]).arg(at("reward")).arg("--data").arg(at("samples.jsonl"));
    let told = summary(score.arg("--out").arg(at("scores.jsonl")));
    assert_eq!(told["rows_out"], kept);

    let mut pairs = sipf();
    pairs.args(["align", "pairs", "--margin", "0.02", "--step-floor", "0.1", "--pairs-per-question", "2"]);
    pairs.arg("--data").arg(at("samples.jsonl")).arg("--scores").arg(at("scores.jsonl"));
    let told = summary(pairs.arg("--out").arg(at("pairs.jsonl")));
    let made = rows(&at("pairs.jsonl"));
    assert_eq!(
        (&told["rows_in"], &told["rows_out"]),
        (&Value::from(samples.len()), &Value::from(made.len()))
    );
    assert!(!made.is_empty());
    for pair in &made {
        let [chosen, rejected] = ["chosen", "rejected"].map(|side| {
            let id = &pair[&format!("{side}_sample")];
            samples.iter().find(|row| row["id"] == *id).unwrap()
        });
        assert_eq!(chosen["passed"], true);
        assert_eq!((&pair["chosen"], &pair["rejected"]), (&chosen["completion"], &rejected["completion"]));
        let reward = |side: &str| pair[&format!("{side}_reward")].as_f64().unwrap();
        assert!(reward("chosen") - reward("rejected") > 0.0199);
    }
    let rows = ["--data".as_ref(), at("pairs.jsonl").into_os_string().as_os_str()].map(ToOwned::to_owned);
    run_well(sipf().args(["align", "--loss", "orpo", "--model", "tiny", "--eval-only"]).args(rows));
}

#[test]
fn settings_come_from_flags_over_config_over_the_card() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("run.toml");
    std::fs::write(&config, "model = \"m\"\n[sample]\nwave = 5\ntemperature = 0.5\n").unwrap();
    let plan = "sample --task gsm8k --model tiny --dry-run --max-attempts 7 --temperature 0.3 --config";
    let fixtures = workspace().join("tasks/fixtures/gsm8k.jsonl");
    let mut command = sipf();
    let told = summary(command.args(plan.split(' ')).arg(&config).arg("--data").arg(fixtures));
    let setting = |key: &str| {
        let setting = &told["settings"][key];
        (setting["value"].to_string(), setting["from"].as_str().unwrap().to_owned())
    };
    assert_eq!(setting("temperature"), ("0.3".into(), "flag".into()));
    assert_eq!(setting("wave"), ("5".into(), format!("config {}", config.display())));
    assert_eq!(setting("equation-filter"), ("\"both\"".into(), "card".into()));
    assert_eq!(setting("top-p"), ("1.0".into(), "default".into()));
    std::fs::write(&config, "wafe = 5\n").unwrap();
    let mut command = sipf();
    command.args("sample --task arith --model tiny --limit 1 --dry-run --config".split(' ')).arg(&config);
    let ran = run(&mut command);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("unknown key \"wafe\""), "{}", ran.stderr);
}

#[test]
fn a_stage_that_cannot_start_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let samples = folder.path().join("samples.jsonl");
    std::fs::write(&samples, "{\"id\": \"arith/train/0#0.0\"}\n").unwrap();
    let ends = |command: &str, told: &str| {
        let mut ran = sipf();
        ran.args(command.split(' '))
            .arg("--out")
            .arg(folder.path().join("o.jsonl"))
            .arg("--data")
            .arg(&samples);
        let ran = run(&mut ran);
        assert_eq!(ran.status, Some(2), "{command}: {}", ran.stderr);
        assert!(ran.stderr.contains(told), "{command}: {}", ran.stderr);
    };
    ends("simulate --task arith --simulator tiny-strong", "line 1: missing field `problem`");
    ends("align pairs", "--scores SCORES.jsonl");
    ends("align pairs --pair-policy best", "outcome_and_margin, margin_only, outcome");
}

#[cfg(unix)]
#[test]
fn a_stage_on_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // A bundled model would itself be written to disk.
    let rows = workspace().join("tests/fixtures/rows/sft.jsonl");
    let sft = "sft --model tiny --max-steps 1 --out".split(' ');
    run_well(sipf().args(sft).arg(at("model")).arg("--data").arg(rows));
    let sample = |out: &str| {
        let mut command = sipf();
        command.args("sample --task arith --limit 20 --max-attempts 4 --max-tokens 64 --model".split(' '));
        command.arg(at("model")).arg("--out").arg(at(out));
        command
    };
    let full = run(&mut with_little_space(&sample("parts.jsonl"), 4));
    if full.status == Some(0) {
        return skipped("this shell does not limit the size of files");
    }
    assert_eq!(full.status, Some(1), "{}", full.stderr);
    for said in ["ended early", "same command", "parts.jsonl.journal: File too large"] {
        assert_eq!(full.stderr.matches(said).count(), 1, "{said}: {}", full.stderr);
    }
    assert!(!at("parts.jsonl").exists());
    run_well(&mut sample("parts.jsonl"));
    run_well(&mut sample("whole.jsonl"));
    assert!(std::fs::read(at("parts.jsonl")).unwrap() == std::fs::read(at("whole.jsonl")).unwrap());
}
