//! `sipf doctor`: every check has a name, a state and a line; what is broken is named and makes it exit 1.

use serde_json::Value;
use sipf_tests::{Ran, run, sipf};

fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> (Ran, Vec<Value>) {
    let mut command = sipf();
    if let Some(folder) = sipf_sandbox::folder() {
        command.env("SIPF_CACHE_DIR", folder);
    }
    let ran = run(command.args(["doctor", "--json"]).args(arguments).envs(variables.iter().copied()));
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = object["checks"].as_array().unwrap().clone();
    (ran, checks)
}

fn of<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {checks:?}"))
}

#[test]
fn a_healthy_machine_is_told_what_it_has() {
    let home = tempfile::tempdir().unwrap();
    let hub = home.path().join("hub/models--a--b");
    std::fs::create_dir_all(&hub).unwrap();
    let home = home.path().to_str().unwrap();
    let (ran, checks) = doctor(
        &[],
        &[("HF_HOME", home), ("HF_HUB_OFFLINE", "1"), ("HF_TOKEN", "hf_secret"), ("XDG_DATA_HOME", home)],
    );
    assert_eq!(ran.status, Some(0), "{ran:?}");
    for check in &checks {
        assert!(check["ok"] == true && !check["message"].as_str().unwrap().is_empty(), "{check}");
    }
    let message = |name: &str| of(&checks, name)["message"].as_str().unwrap().to_owned();
    assert!(message("interpreter").contains(sipf_sandbox::SHA256));
    assert!(message("compiled code").contains(".cwasm"), "{}", message("compiled code"));
    assert!(message("self-test").starts_with("passed in "));
    assert!(message("forged equality").starts_with("failed_assertion in "));
    assert!(message("hub cache").contains("1 models") && message("hub").contains("offline"));
    assert!(message("hub").contains("with a token") && !ran.stdout.contains("hf_secret"));
    for name in ["threads", "device", "memory", "plugins"] {
        of(&checks, name);
    }
}

#[test]
fn what_is_broken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("mine");
    std::fs::create_dir(&plugin).unwrap();
    std::fs::write(plugin.join("plugin.toml"), "name = 3").unwrap();
    let file = plugin.join("plugin.toml");
    let (ran, checks) =
        doctor(&["--plugin-dir", folder.path().to_str().unwrap()], &[("HF_HOME", file.to_str().unwrap())]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    let broken: Vec<_> = checks.iter().filter(|check| check["ok"] == false).collect();
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(of(&checks, "hub cache")["message"].as_str().unwrap().contains("HF_HOME"));
    let plugins = broken.iter().find(|check| check["name"] == "plugins").unwrap();
    assert!(plugins["message"].as_str().unwrap().contains("plugin.toml"), "{plugins}");
}
