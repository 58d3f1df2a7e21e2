//! From `sipf plugin new` to an installed plugin, outside the repository, with nothing but the binary and cargo.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sipf_plugin_host::scaffold::library_file;
use sipf_tests::{binary, run, run_well, target, workspace};

use super::{loops, nested};

/// Runs cargo in a package, with the target folder that all scaffolds share.
fn cargo(package: &Path, arguments: &[&str]) {
    run_well(nested(package, &target().join("plugins")).args(arguments));
}

/// An installed binary: a copy away from the repository, with settings of its own.
fn installed(home: &Path) -> Command {
    let copy = home.join("bin").join(binary().file_name().unwrap());
    if !copy.exists() {
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(binary(), &copy).unwrap();
    }
    let mut command = Command::new(copy);
    command.current_dir(home).env("XDG_DATA_HOME", home.join("data")).stdin(std::process::Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SIPF_")) {
        command.env_remove(name);
    }
    command
}

#[test]
fn a_new_task_builds_passes_its_check_judges_goes_through_the_loop_and_installs() {
    let home = tempfile::tempdir().unwrap();
    let sipf = || installed(home.path());
    let text = run_well(sipf().args(["plugin", "new", "word-sums"]));
    assert!(text.contains("cargo test") && text.contains(&library_file("word-sums")), "{text}");
    let package = home.path().join("word-sums");
    let source = std::fs::read_to_string(package.join("src/lib.rs")).unwrap();
    let code = source.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("//!"));
    assert!(lines.count() <= 60, "a task is under 60 lines");
    assert!(!source.contains("my-task") && source.contains("WordSums"), "{source}");
    cargo(&package, &["build", "--quiet"]);
    let library = target().join("plugins/debug").join(library_file("word-sums"));
    let library = library.to_str().unwrap();
    let checked: Value =
        serde_json::from_str(&run_well(sipf().args(["plugin", "check", library, "--json"]))).unwrap();
    assert_eq!((&checked["passed"], &checked["exports"][0]["name"]), (&true.into(), &"word-sums".into()));
    let held = checked["exports"][0]["findings"].as_array().unwrap();
    assert!(held.len() >= 10 && held.iter().all(|finding| finding["held"] == "ok"), "{checked}");
    loops(&mut sipf(), library.as_ref(), "word-sums", &home.path().join("run"));
    run_well(sipf().args(["plugin", "install", library]));
    let counts =
        run_well(sipf().args(["verify", "--task", "word-sums", "--reference", "--limit", "30", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&counts).unwrap()["passed"], 30);
    assert!(run_well(sipf().args(["plugin", "list"])).contains("word-sums"));
    assert!(run_well(sipf().args(["task", "show", "word-sums"])).contains("What is 1 + 2 + 3?"));
    let ran = run(sipf().args(["plugin", "new", "word-sums"]));
    assert!(ran.status == Some(2) && ran.stderr.contains("there already"), "{}", ran.stderr);
    let ran = run(sipf().args(["plugin", "new", "Word Sums"]));
    assert!(ran.status == Some(2) && ran.stderr.contains("small letters"), "{}", ran.stderr);
}

#[test]
fn a_new_reward_model_builds_and_passes_its_check() {
    let home = tempfile::tempdir().unwrap();
    let sipf = || installed(home.path());
    run_well(sipf().args(["plugin", "new", "--reward", "line-ends"]));
    let package = home.path().join("line-ends");
    cargo(&package, &["build", "--quiet"]);
    let library = target().join("plugins/debug").join(library_file("line-ends"));
    let text = run_well(sipf().args(["plugin", "check"]).arg(&library));
    assert!(text.contains("reward line-ends") && !text.contains("FAILED"), "{text}");
}

#[test]
fn the_template_passes_its_own_tests() {
    cargo(&workspace().join("plugins/template"), &["test", "--quiet"]);
}
