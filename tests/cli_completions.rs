//! Shell completions and the man page come from the flags themselves.

use sipf_tests::{run_well, sipf};

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell", "man"] {
        let text = run_well(sipf().args(["completions", shell]));
        for command in ["verify", "plugin", "sandbox"] {
            assert!(text.contains(command), "{shell}: {command}");
        }
        assert!(shell != "man" || (text.contains(".TH sipf 1") && !text.contains("__probe")), "{text}");
    }
}

#[test]
fn bash_accepts_its_completions() {
    let text = run_well(sipf().args(["completions", "bash"]));
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("sipf.bash");
    std::fs::write(&script, format!("{text}\ncomplete -p sipf\n")).unwrap();
    let listed = run_well(std::process::Command::new("bash").arg("--norc").arg(&script));
    assert!(listed.contains("sipf"), "{listed}");
}
