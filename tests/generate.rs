//! `sipf generate`: the same bytes whatever the machine does, and the two ends of a command.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sipf_tests::{run, run_well, sipf};

/// Twelve prompts, some of them beginning alike.
fn prompts(folder: &Path) -> std::path::PathBuf {
    let rows: Vec<String> = (0..12)
        .map(|i| {
            format!(
                r#"{{"id": "q{i}", "prompt": "Q: Mia has {} cups and buys {} more.\nA:"}}"#,
                i / 3 + 3,
                i % 3 + 2
            )
        })
        .collect();
    let path = folder.join("prompts.jsonl");
    std::fs::write(&path, rows.join("\n")).unwrap();
    path
}

fn generate(prompts: &Path, flags: &[&str]) -> Command {
    let mut command = sipf();
    command.args([
        "generate",
        "--model",
        "tiny",
        "--json",
        "-n",
        "3",
        "--temperature",
        "1",
        "--max-tokens",
        "40",
    ]);
    command.args(["--stop", "\n\n", "--prompts"]).arg(prompts).args(flags);
    command
}

#[test]
fn the_bytes_do_not_depend_on_batch_threads_cache_or_sharing() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = prompts(folder.path());
    let want = run_well(&mut generate(&prompts, &["--batch-size", "1", "--threads", "1"]));
    let completions: Value = serde_json::from_str(&want).unwrap();
    assert_eq!(completions["completions"].as_array().unwrap().len(), 36);
    for flags in [
        &["--batch-size", "7", "--threads", "2"][..],
        &["--batch-size", "64", "--threads", "2"],
        &["--batch-size", "64", "--threads", "1", "--no-prefix-sharing"],
        &["--batch-size", "7", "--threads", "2", "--cache-mib", "1"],
    ] {
        assert_eq!(run_well(&mut generate(&prompts, flags)), want, "{flags:?}");
    }
    let other = run_well(&mut generate(&prompts, &["--seed", "43"]));
    assert_ne!(other, want, "another seed is another sample");
    let first = run_well(&mut generate(&prompts, &["--limit", "4"]));
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(
        first["completions"].as_array().unwrap()[..],
        completions["completions"].as_array().unwrap()[..12]
    );
}

#[test]
fn prompts_that_cannot_be_read_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.jsonl");
    std::fs::write(&path, "{\"prompt\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    let ran = run(&mut generate(&path, &[]));
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("bad.jsonl, line 2") && ran.stderr.contains("prompt"), "{}", ran.stderr);
    let ran = run(sipf().args(["generate", "--model", "tiny", "--ids", "1,99999"]));
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("99999"), "{}", ran.stderr);
}

/// Ends with 130 and without half an object on standard output.
#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_long_command_within_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = prompts(folder.path());
    let mut command = sipf();
    command.args(["generate", "--model", "tiny", "--json", "-n", "20000", "--temperature", "1", "--prompts"]);
    let child = command.arg(&prompts).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}
