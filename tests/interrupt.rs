//! Ctrl-C and a reader that leaves: every command ends at once, or where its work allows, and says so by its status.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sipf_tests::{run_well, sipf};

/// Longest wait for a command to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until the process hears the signal, and a little longer, so that its work is under way.
#[cfg(target_os = "linux")]
fn at_work(child: &Child) {
    let heard = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 2 != 0)
    };
    let begun = Instant::now();
    while !heard() {
        assert!(begun.elapsed() < PATIENCE, "the command never listened for Ctrl-C");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(700));
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
#[cfg(target_os = "linux")]
fn every_command_ends_with_130_on_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let endless = "def change(x):\n    while True: pass\n";
    let spin = write(folder.path(), "spin.py", endless);
    let rows: Vec<String> = (0..400)
        .map(|n| {
            json!({"id": format!("pyfunc/train/{n}"), "completion": format!("# {n}\n{endless}")}).to_string()
        })
        .collect();
    let rows = write(folder.path(), "rows.jsonl", &rows.join("\n"));
    let samples: Vec<String> = (0..20_000)
        .map(|n| json!({"id": n.to_string(), "prompt": "1 + 1?\n", "completion": "2\n3\n4\n"}).to_string())
        .collect();
    let samples = write(folder.path(), "samples.jsonl", &samples.join("\n"));
    let prompts: Vec<String> =
        (0..3000).map(|n| json!({"prompt": format!("Tom has {n} apples")}).to_string()).collect();
    let prompts = write(folder.path(), "prompts.jsonl", &prompts.join("\n"));
    let task = "SIPF_API = [1, 0]\nwhile True: pass\n";
    let plugin = write(folder.path(), "endless.py", task);
    let out = place("out.jsonl");
    let labels: Vec<String> = (0..8)
        .map(|_| json!({"prompt": "1 + 1?", "completions": ["2"], "labels": [true]}).to_string())
        .collect();
    let labels = write(folder.path(), "labels.jsonl", &labels.join("\n"));
    let reward = place("reward");
    run_well(sipf().args(["reward", "train", "--plugin", "prm-tiny", "--model", "tiny-strong"]).args([
        "--data",
        &labels,
        "--out",
        &reward,
        "--max-steps",
        "1",
    ]));
    let commands: Vec<Vec<&str>> = vec![
        vec!["verify", "--task", "pyfunc", "--completions", &rows, "--out", &out],
        vec!["sandbox", "exec", &spin, "--test", "assert change(1) == 1"],
        vec!["plugin", "check", &plugin],
        vec!["bench", "generate", "--model", "tiny-strong", "--at-least", "60"],
        vec!["bench", "sandbox", "--task", "pyfunc", "--limit", "20000"],
        vec!["evaluate", "--task", "arith", "--model", "tiny-strong", "--limit", "20000"],
        vec!["generate", "--model", "tiny-strong", "--prompts", &prompts, "-n", "40", "--temperature", "1"],
        vec!["reward", "eval", "--model", &reward, "--data", &samples],
        vec!["reward", "score", "--model", &reward, "--data", &samples, "--out", &out],
    ];
    for arguments in commands {
        let mut child =
            sipf().args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        at_work(&child);
        assert_eq!(child.try_wait().unwrap(), None, "{arguments:?} was over before Ctrl-C");
        run_well(Command::new("kill").args(["-INT", &child.id().to_string()]));
        let asked = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(asked.elapsed() < PATIENCE, "{arguments:?} goes on after Ctrl-C");
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = child.wait_with_output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert_eq!(ended.status.code(), Some(130), "{arguments:?}: {stdout}{stderr}");
        assert_eq!(stdout, "", "{arguments:?}: half a result");
    }
    assert!(!Path::new(&out).exists(), "no half file stands where a whole one is expected");
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_ends_a_command_without_a_word() {
    for arguments in [
        vec!["task", "show", "gsm8k"],
        vec!["task", "list"],
        vec!["task", "list", "--json"],
        vec!["task", "export", "arith", "--limit", "2000"],
        vec!["completions", "bash"],
        vec!["completions", "man"],
        vec!["plugin", "list"],
        vec!["doctor"],
    ] {
        let mut child =
            sipf().args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
        // What a shell says of a program that SIGPIPE ended.
        assert_eq!(ended.status.code(), Some(141), "{arguments:?}");
    }
    // Rows written to a pipe as they come.
    let mut child = sipf()
        .args(["verify", "--task", "arith", "--reference", "--limit", "60000", "--out", "/dev/stdout"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    drop(stdout);
    assert!(first.starts_with("{\"id\":\"arith/test/0\""), "{first}");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.contains("sipf: ")), (Some(141), false), "{said}");
}
