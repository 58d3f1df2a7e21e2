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
    let script = format!("{text}\ncomplete -p sipf\n");
    let listed = run_well(std::process::Command::new("bash").args(["--norc", "-c", &script]));
    assert!(listed.contains("sipf"), "{listed}");
}
