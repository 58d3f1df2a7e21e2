//! Where settings come from, and what is refused before anything starts: flags, variables, `--config`, files that are not
//! there, results that would overwrite what is read.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sipf_tests::{run, run_well, sipf, workspace};

fn words(line: &str) -> Command {
    let mut command = sipf();
    command.args(line.split(' ').filter(|word| !word.is_empty()));
    command
}

/// Value and origin of a setting that a dry run prints.
fn setting(command: &mut Command, key: &str) -> (String, String) {
    let told: Value = serde_json::from_str(&run_well(command.args(["--dry-run", "--json"]))).unwrap();
    let setting = &told["settings"][key];
    (setting["value"].to_string(), setting["from"].as_str().unwrap_or_default().to_owned())
}

/// Refused with status 2 and these words, and nothing on standard output.
fn refused(command: &mut Command, said: &[&str]) {
    let ran = run(command);
    assert_eq!(ran.status, Some(2), "{command:?}: {}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.stdout, "", "{command:?}");
    for words in said {
        assert!(ran.stderr.contains(words), "{command:?} does not say {words:?}: {}", ran.stderr);
    }
}

#[test]
fn a_flag_wins_over_its_variable_that_over_config_and_that_over_the_card() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    let label = format!("config {}", config.display());
    let rows = workspace().join("tests/fixtures/rows/sft.jsonl");
    let sft = format!("sft --data {}", rows.display());
    let sft_tiny = format!("{sft} --model tiny");
    let fixtures = workspace().join("tasks/fixtures/gsm8k.jsonl");
    let sample = format!("sample --task gsm8k --model tiny --data {}", fixtures.display());
    let simulate_data = folder.path().join("none.jsonl");
    std::fs::write(&simulate_data, "").unwrap();
    let simulate = format!("simulate --task arith --simulator tiny --data {}", simulate_data.display());
    let pairs = format!("align pairs --pair-policy outcome --data {}", simulate_data.display());
    // Command, the flag, the setting's key, its card or default, and three values.
    let cases = [
        ("run --limit 8", "margin", "pairs.margin", "recipe tiny", ["0.1", "0.2", "0.4"]),
        ("run --limit 8", "seed", "seed", "default", ["7", "8", "9"]),
        ("run --limit 8", "rollouts", "simulate.rollouts", "recipe tiny", ["2", "3", "4"]),
        ("run --limit 8", "samples-per-question", "sample.wave", "recipe tiny", ["2", "3", "4"]),
        ("run --limit 8", "iterations", "iterations", "recipe tiny", ["1", "2", "4"]),
        ("run --limit 8", "threads", "threads", "", ["1", "1", "2"]),
        (&sft, "model", "model", "", ["\"tiny\"", "\"tiny-strong\"", "\"tiny-strong-init\""]),
        (&sft_tiny, "batch-size", "batch-size", "default", ["2", "3", "4"]),
        (&sft_tiny, "max-length", "max-length", "default", ["50", "60", "70"]),
        (&sample, "max-attempts", "max-attempts", "default", ["2", "3", "4"]),
        (&sample, "seed", "seed", "default", ["2", "3", "4"]),
        (&sample, "temperature", "temperature", "default", ["0.5", "0.6", "0.7"]),
        (&simulate, "rollouts", "rollouts", "default", ["2", "3", "4"]),
        (&pairs, "margin", "margin", "default", ["0.1", "0.2", "0.4"]),
    ];
    for (line, flag, key, unsaid, [said, variable, file]) in cases {
        let bare = |text: &str| text.trim_matches('"').to_owned();
        let same = |found: &str, wanted: &str| bare(found) == bare(wanted);
        let name = format!("SIPF_{}", flag.replace('-', "_").to_uppercase());
        std::fs::write(&config, format!("{flag} = {file}\n")).unwrap();
        let mut by_config = words(line);
        by_config.arg("--config").arg(&config);
        let (value, from) = setting(&mut by_config, key);
        assert!(same(&value, file) && from == label, "{line} {flag}: {value} from {from}");
        let mut by_variable = words(line);
        by_variable.arg("--config").arg(&config).env(&name, bare(variable));
        let (value, from) = setting(&mut by_variable, key);
        assert!(
            same(&value, variable) && from == format!("variable {name}"),
            "{line} {flag}: {value} from {from}"
        );
        let mut by_flag = words(line);
        by_flag
            .arg("--config")
            .arg(&config)
            .env(&name, bare(variable))
            .args([format!("--{flag}"), bare(said)]);
        let (value, from) = setting(&mut by_flag, key);
        assert!(same(&value, said) && from == "flag", "{line} {flag}: {value} from {from}");
        if !unsaid.is_empty() {
            assert_eq!(setting(&mut words(line), key).1, unsaid, "{line} {flag}");
        }
    }
}

#[test]
fn what_has_no_dry_run_reads_variables_and_config_too() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = workspace().join("tasks/fixtures/gsm8k.jsonl");
    let config = folder.path().join("c.toml");
    std::fs::write(&config, "task = \"gsm8k\"\nlimit = 2\n").unwrap();
    let total = |command: &mut Command| -> Value {
        let told: Value = serde_json::from_str(&run_well(command.arg("--json"))).unwrap();
        told["total"].clone()
    };
    let verify = || {
        let mut command = words("verify --reference");
        command.arg("--config").arg(&config).env("SIPF_DATA", &fixtures);
        command
    };
    assert_eq!(total(&mut verify()), 2);
    assert_eq!(total(verify().env("SIPF_LIMIT", "1")), 1);
    assert_eq!(total(verify().env("SIPF_LIMIT", "9").args(["--limit", "1"])), 1);
    refused(
        words("verify --reference --task arith --config").arg(config_of(folder.path(), "taks = 1\n")),
        &["unknown key \"taks\"", "did you mean task?"],
    );
    refused(
        words("evaluate --limit 2").env("SIPF_TASK", "arith").env("SIPF_MODEL", "no/such/model"),
        &["SIPF_MODEL no/such/model"],
    );
    refused(words("sandbox exec x.py").env("SIPF_FUEL", "much"), &["SIPF_FUEL: invalid value 'much'"]);
    refused(
        words("bench generate --model tiny").env("SIPF_BATCH", "0"),
        &["SIPF_BATCH: invalid value '0'", "1.."],
    );
}

fn config_of(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("other.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_run_takes_any_setting_by_a_variable_of_its_key() {
    let run = || words("run --limit 8");
    let (value, from) = setting(run().env("SIPF_ALIGN_BETA", "0.25"), "align.beta");
    assert_eq!((value.as_str(), from.as_str()), ("0.25", "variable SIPF_ALIGN_BETA"));
    let from = setting(run().env("SIPF_ALIGN_BETA", "0.25").args(["--set", "align.beta=0.5"]), "align.beta");
    assert_eq!(from, ("0.5".into(), "flag".into()));
    refused(run().arg("--dry-run").env("SIPF_ALIGN_BETA", "much"), &["SIPF_ALIGN_BETA = \"much\""]);
    refused(run().arg("--dry-run").env("SIPF_SEED", "x"), &["SIPF_SEED: invalid value 'x'"]);
    assert_eq!(
        setting(run().env("SIPF_CONTROL", "true").arg("--no-control"), "control"),
        ("false".into(), "flag".into())
    );
    assert_eq!(setting(&mut run(), "limit"), ("8".into(), "flag".into()));
}

#[test]
fn values_that_make_no_sense_are_refused_by_the_name_they_were_given_under() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    for (flags, said) in [
        ("--rollouts 0", "--rollouts is 0; it must be 1 or more"),
        ("--samples-per-question 0", "--samples-per-question is 0; it must be 1 or more"),
        ("--temperature -1", "--temperature is -1; it must be 0 (greedy) or more"),
        ("--temperature nan", "--temperature"),
        ("--margin nan", "it must be a finite number"),
        ("--margin -0.5", "--margin is -0.5; it must be 0 or more"),
        ("--eval-limit 0", "--eval-limit"),
        ("--limit 0", "--limit"),
        ("--threshold 8", "--threshold is 8; it must be below rollouts (8)"),
        ("--set sample.top-p=0", "--set sample.top-p is 0; it must be above 0 and at most 1"),
        ("--set sft.batch-size=0", "--set sft.batch-size is 0; it must be 1 or more"),
        ("--set reward.max-length=0", "--set reward.max-length is 0"),
        ("--set align.learning-rate=-1", "--set align.learning-rate is -1; it must be 0 or more"),
        ("--set align.beta=nan", "--set align.beta: it must be a finite number"),
        ("--set lora.r=4 --set lora.alpha=0", "--set lora.alpha is 0; it must be above 0"),
        ("--simulator /no/such/model", "--simulator /no/such/model"),
        ("--model ./nowhere", "--model ./nowhere"),
        ("--config /no/such.toml", "--config /no/such.toml"),
        ("--data /no/such/data", "--data /no/such/data: there is no such file or folder"),
        ("--task mmlu-math", "task mmlu-math has no train split"),
        ("--iterations 0 --control", "--control: a control"),
        ("--pair-policy best", "--pair-policy = \"best\""),
    ] {
        for place in ["run --dry-run", "plan", "run"] {
            let mut command = words(&format!("{place} {flags}"));
            if place == "run" {
                command.arg("--run-dir").arg(&run_dir);
            }
            refused(&mut command, &[said]);
            assert!(!run_dir.exists(), "{flags}");
        }
    }
    let rows = workspace().join("tests/fixtures/rows/sft.jsonl");
    for (flags, said) in [
        ("--batch-size 0", "--batch-size is 0; it must be 1 or more"),
        ("--learning-rate -1", "--learning-rate is -1; it must be 0 or more"),
        ("--lora-r 0", "--lora-r is 0; it must be 1 or more"),
        ("--lora-alpha 32", "--lora-alpha is given without --lora-r"),
        ("--rslora", "--rslora is given without --lora-r"),
        ("--max-length 0", "--max-length is 0; it must be 1 or more"),
        ("--epochs inf", "it must be a finite number"),
        ("--adam-beta2 1", "--adam-beta2 is 1; it must be 0 or more and below 1"),
    ] {
        let mut command = words(&format!("sft --model tiny --dry-run {flags}"));
        refused(command.arg("--data").arg(&rows), &[said]);
    }
    refused(
        words("sft --model tiny --dry-run --data").arg(&rows).env("SIPF_BATCH_SIZE", "0"),
        &["SIPF_BATCH_SIZE is 0; it must be 1 or more"],
    );
    refused(
        words("sft --model tiny --dry-run --data").arg(&rows).env("SIPF_LORA_ALPHA", "9"),
        &["SIPF_LORA_ALPHA is given without --lora-r"],
    );
    refused(
        words("sft --model tiny --dry-run --data")
            .arg(&rows)
            .arg("--config")
            .arg(config_of(folder.path(), "batch-size = 0\n")),
        &["other.toml: batch-size is 0; it must be 1 or more"],
    );
    for (line, said) in [
        (
            "sample --task arith --model tiny --limit 2 --dry-run --top-p 1.5",
            "--top-p is 1.5; it must be above 0",
        ),
        ("evaluate --task arith --model tiny --limit 2 --top-p 0", "--top-p is 0; it must be above 0"),
        ("evaluate --task arith --model tiny --limit 0", "--limit"),
        (
            "generate --model tiny --prompt x --temperature -1",
            "--temperature is -1; it must be 0 (greedy) or more",
        ),
        ("generate --model tiny --prompt x --max-tokens 0", "--max-tokens is 0; it must be 1 or more"),
        ("generate --model tiny --prompt x --batch-size 0", "--batch-size"),
        (
            "generate --model tiny --prompt x --adapter /no/such",
            "--adapter /no/such: there is no such file or folder",
        ),
        ("sandbox exec --fuel 0 x.py", "--fuel"),
        ("sandbox exec --memory 99999 x.py", "32..=512"),
    ] {
        refused(&mut words(line), &[said]);
    }
}

#[test]
fn a_result_never_goes_where_the_command_reads() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = "{\"id\": \"arith/test/0\", \"completion\": \"x\"}\n";
    std::fs::write(at("x.jsonl"), text).unwrap();
    let mut outs = vec![at("x.jsonl"), at("./x.jsonl")];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(at("x.jsonl"), at("link.jsonl")).unwrap();
        std::fs::hard_link(at("x.jsonl"), at("hard.jsonl")).unwrap();
        outs.extend([at("link.jsonl"), at("hard.jsonl")]);
    }
    let input = at("x.jsonl").display().to_string();
    for line in [
        format!("verify --task arith --completions {input}"),
        format!("sandbox batch {input}"),
        format!("simulate --task arith --simulator tiny --data {input}"),
        format!("reward score --model tiny --data {input}"),
        format!("align pairs --pair-policy outcome --data {input}"),
        format!("sample --task arith --model tiny --limit 1 --known {input}"),
        format!("task export gsm8k --data {input}"),
    ] {
        for out in &outs {
            refused(words(&line).arg("--out").arg(out), &["would be overwritten"]);
        }
        assert_eq!(std::fs::read_to_string(at("x.jsonl")).unwrap(), text, "{line}");
    }
    std::fs::create_dir(at("model")).unwrap();
    let rows = workspace().join("tests/fixtures/rows/sft.jsonl");
    let mut sft = words("sft --max-steps 1 --data");
    sft.arg(rows).arg("--model").arg(at("model")).arg("--out").arg(at("model"));
    refused(&mut sft, &["--out", "what --model reads"]);
}

#[test]
fn a_reward_model_that_cannot_read_its_base_is_refused_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let line = "run --limit 8 --plugin prm-math-shepherd --run-dir";
    refused(words(line).arg(&run_dir), &["prm-math-shepherd", "tiny-strong", "--reward-base"]);
    refused(words(line).arg(&run_dir).arg("--dry-run"), &["prm-math-shepherd"]);
    assert!(!run_dir.exists());
}

#[test]
fn messages_name_the_flag_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("empty.jsonl"), "").unwrap();
    std::fs::write(at("sanitized-mbpp.json"), "[{\"task_id\": 11, \"prompt\": \"p\", \"test_imports\": []}]")
        .unwrap();
    std::fs::write(at("bad.jsonl"), "\n\n{\"id\": 1,\n").unwrap();
    refused(words("task list --plugin").arg(at("empty.jsonl")), &["--plugin: ", "is no plugin"]);
    refused(words("run --limit 2 --plugin").arg(at("empty.jsonl")), &["--plugin: ", "is no plugin"]);
    refused(words("plugin install").arg(folder.path()), &["is a folder; name the plugin file in it"]);
    refused(words("verify --reference --task gsm8k --data").arg(at("empty.jsonl")), &["is empty"]);
    refused(
        words("verify --reference --task mbpp --data").arg(at("sanitized-mbpp.json")),
        &["reads mbpp.jsonl"],
    );
    refused(
        words("generate --model tiny --prompts").arg(at("bad.jsonl")),
        &["bad.jsonl, line 3: ", " at column "],
    );
    for (name, why) in
        [("gsm8k", "built-in"), ("prm-tiny", "built-in"), ("fn", "word of Rust"), ("test", "crate")]
    {
        refused(words("plugin new").arg(name).arg("--into").arg(folder.path()), &[why]);
    }
}

#[test]
fn quiet_says_nothing_of_progress() {
    let fixtures = workspace().join("tasks/fixtures/gsm8k.jsonl");
    let verify = |quiet: &[&str]| {
        let mut command = words("verify --reference --task gsm8k --data");
        run(command.arg(&fixtures).args(quiet))
    };
    assert_eq!(verify(&["-q"]).stderr, "");
    let folder = tempfile::tempdir().unwrap();
    let rows = workspace().join("tests/fixtures/rows/sft.jsonl");
    let sft = |out: &str, quiet: &[&str]| {
        let mut command = words("sft --model tiny --max-steps 1 --data");
        let ran = run(command.arg(&rows).arg("--out").arg(folder.path().join(out)).args(quiet));
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        ran.stderr
    };
    assert_ne!(sft("loud", &[]), "");
    assert_eq!(sft("quiet", &["-q"]), "");
}
