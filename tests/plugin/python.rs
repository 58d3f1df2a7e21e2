//! A Python file as a plugin: checked, named, judged with, and refused with Python's own words.

use serde_json::Value;
use sipf_tests::{run, run_well, sipf, workspace};

fn sums() -> std::path::PathBuf {
    workspace().join("tests/fixtures/sums.py")
}

#[test]
fn a_task_file_passes_its_check_and_judges() {
    let text = run_well(sipf().args(["plugin", "check"]).arg(sums()));
    assert!(text.contains("task sums") && text.contains("every reference solution passes"), "{text}");
    assert!(!text.contains("FAILED"), "{text}");
    let mut verify = sipf();
    verify.args(["verify", "--reference", "--limit", "20", "--json", "--task"]).arg(sums());
    let counts: Value = serde_json::from_str(&run_well(&mut verify)).unwrap();
    assert_eq!((&counts["passed"], &counts["total"]), (&20.into(), &20.into()));
}

#[test]
fn a_task_file_goes_through_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    super::loops(&mut sipf(), &sums(), "sums", &folder.path().join("run"));
}

#[test]
fn a_file_that_does_not_hold_what_it_must_fails_its_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("always.py");
    let source = std::fs::read_to_string(sums()).unwrap();
    std::fs::write(&file, source.replace("answer(completion) == problem.answer", "True")).unwrap();
    let ran = run(sipf().args(["plugin", "check"]).arg(&file));
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains("FAILED   an empty completion does not pass"), "{}", ran.stdout);
    let json = run(sipf().args(["plugin", "check", "--json"]).arg(&file));
    let object: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let count = |key: &str| object[key].as_u64().unwrap();
    let findings = object["exports"][0]["findings"].as_array().unwrap().len() as u64;
    assert_eq!(count("held") + count("failed") + count("skipped"), findings);
    assert!(object["passed"] == false && count("failed") > 0 && json.status == Some(1));
    let end = format!("FAILED: {} properties hold, {} do not", count("held"), count("failed"));
    assert!(ran.stdout.lines().next_back().is_some_and(|line| line.contains(&end)), "{}", ran.stdout);
    std::fs::write(&file, "CARD = {'name': 'x'}\nimport nothing_like_this\n").unwrap();
    let ran = run(sipf().args(["plugin", "check"]).arg(&file));
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("always.py") && ran.stderr.contains("nothing_like_this"), "{}", ran.stderr);
}
