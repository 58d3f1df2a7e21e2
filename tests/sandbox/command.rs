//! `sipf sandbox`: exit statuses, JSON, order, bad lines.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sipf_tests::{Ran, run, sipf};

fn command(arguments: &[&str]) -> Command {
    let mut command = sipf();
    // The tests' own cache folder, which `sipf` does not hand on.
    if let Some(folder) = sipf_sandbox::folder() {
        command.env("SIPF_CACHE_DIR", folder);
    }
    command.arg("sandbox").args(arguments);
    command
}

fn sandbox(arguments: &[&str]) -> Ran {
    run(&mut command(arguments))
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn exec_runs_one_program_and_its_status_is_the_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let file =
        write(folder.path(), "double.py", "print('hello')\ndef f(x): return 2 * x\ndef len(x): return 0\n");
    let setup = write(folder.path(), "setup.py", "k = 4\n");
    let passed =
        sandbox(&["exec", &file, "--test", "assert f(k) == 8", "--setup", &setup, "--names", "f", "--json"]);
    assert_eq!(passed.status, Some(0), "{passed:?}");
    let object: Value = serde_json::from_str(&passed.stdout).unwrap();
    assert_eq!((&object["verdict"], &object["stdout"]), (&json!("passed"), &json!("hello\n")));
    assert_eq!(object["tests"], json!([{"verdict": "passed", "message": ""}]));
    assert!(object["fuel"].as_u64().unwrap() > 0 && object["memory_bytes"].as_u64().unwrap() > 1 << 20);
    let failed = sandbox(&["exec", &file, "--test", "assert f(2) == 4", "--test", "f(2) == 5"]);
    assert_eq!(failed.status, Some(1));
    assert!(
        failed.stdout.contains("test 1: failed_assertion: AssertionError: f(2) == 5"),
        "{}",
        failed.stdout
    );
    let starved = sandbox(&["exec", &file, "--test", "assert f(2) == 4", "--fuel", "1000", "--json"]);
    assert_eq!((starved.status, starved.stdout.contains("\"timeout\"")), (Some(1), true));
    let missing = sandbox(&["exec", "no/such.py"]);
    assert_eq!(missing.status, Some(2));
    assert!(missing.stderr.contains("no/such.py"), "{}", missing.stderr);
}

#[test]
fn batch_keeps_the_order_and_names_bad_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> = (0..700)
        .map(|n| {
            let slow = if n % 50 == 0 { "    for i in range(20000): pass\n" } else { "" };
            let program = format!("def f(x):\n{slow}    return x + {n}\n");
            json!({"id": n, "program": program, "tests": [format!("assert f(1) == {}", n + 1 + n % 7 / 6)], "names": ["f"]}).to_string()
        })
        .collect();
    let good = write(folder.path(), "good.jsonl", &(lines.join("\n") + "\n"));
    let out = folder.path().join("out.jsonl");
    let out = out.to_str().unwrap();
    let ran = sandbox(&["batch", &good, "--out", out, "--threads", "2", "--json"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&object["total"], &object["passed"], &object["failed_assertion"]),
        (&json!(700), &json!(600), &json!(100))
    );
    let ids: Vec<u64> = std::fs::read_to_string(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, (0..700).collect::<Vec<_>>());

    lines.truncate(3);
    lines.insert(1, "{\"id\": 1, \"program\": \"x\"".into());
    lines.insert(3, "{\"id\": 1, \"program\": 3, \"tests\": []}".into());
    let bad = write(folder.path(), "bad.jsonl", &lines.join("\n"));
    let ran = sandbox(&["batch", &bad, "--out", out]);
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.stderr.contains("bad.jsonl:2: ")
            && ran.stderr.contains("bad.jsonl:4: key \"program\" should be text")
    );
    assert!(ran.stdout.contains("3 programs") && ran.stdout.contains("2 bad lines"), "{}", ran.stdout);
    assert_eq!(sandbox(&["batch", "none.jsonl", "--out", out]).status, Some(2));
}

#[test]
fn a_batch_that_was_killed_goes_on_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let spin = "def f(x):\n    for i in range(300000): pass\n    return x\n";
    let mut lines: Vec<String> = (0..60)
        .map(|n| json!({"id": n, "program": spin, "tests": [format!("assert f({n}) == {}", n % 5)], "names": ["f"]}).to_string())
        .collect();
    lines.insert(7, "no JSON".into());
    let rows = write(folder.path(), "rows.jsonl", &lines.join("\n"));
    let whole = folder.path().join("whole.jsonl");
    let straight = sandbox(&["batch", &rows, "--out", whole.to_str().unwrap(), "--json"]);

    let out = folder.path().join("out.jsonl");
    let arguments = ["batch", &rows, "--out", out.to_str().unwrap(), "--json"];
    let left = |folder: &Path| {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|end| end == "part"))
    };
    let mut killed = command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let written = left(folder.path()).and_then(|part| std::fs::read_to_string(part).ok());
        if written.is_some_and(|rows| rows.lines().count() >= 10) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!out.exists() && left(folder.path()).is_some(), "killed too early or too late");

    let ran = sandbox(&arguments);
    assert!(ran.stderr.contains("goes on after "), "{}", ran.stderr);
    assert_eq!(ran.stdout, straight.stdout);
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&whole).unwrap());
    assert_eq!(left(folder.path()), None);
}

#[test]
fn check_tries_every_limit() {
    let ran = sandbox(&["check", "--json"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(object["checks"].as_array().unwrap().iter().all(|check| check["held"] == json!(true)));
}
