//! What the tests share: where the workspace and the real data lie, and the `sipf` binary, built once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// Where cargo puts what it builds, and the profile of this very test binary (`TARGET/PROFILE/deps/all-HASH`).
fn build_place() -> (PathBuf, String) {
    let exe = std::env::current_exe().expect("a test knows its own path");
    let profile = exe.ancestors().nth(2).expect("cargo runs tests from TARGET/PROFILE/deps");
    let name = profile.file_name().expect("a profile folder has a name").to_string_lossy().into_owned();
    (profile.parent().expect("a profile folder lies in the target folder").to_path_buf(), name)
}

/// The target folder that this test was built in; nested builds get folders of their own below it.
pub fn target() -> PathBuf {
    build_place().0
}

/// The cargo that runs this test.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo tells a test about its own package would only confuse a nested build.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// The `sipf` binary of this workspace, in the profile of the test run: built by the first test that asks.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let (target, profile) = build_place();
        let cargo_name = if profile == "debug" { "dev" } else { &profile };
        let output = cargo()
            .args([
                "build",
                "--quiet",
                "--workspace",
                "--bin",
                "sipf",
                "--profile",
                cargo_name,
                "--target-dir",
            ])
            .arg(&target)
            .current_dir(workspace())
            .output()
            .expect("cargo starts");
        assert!(output.status.success(), "building sipf: {}", String::from_utf8_lossy(&output.stderr));
        target.join(profile).join(format!("sipf{}", std::env::consts::EXE_SUFFIX))
    })
}

/// A `sipf` command with nothing of the caller's settings: no `SIPF_*` variables, nothing on standard input.
pub fn sipf() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIPF_") {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Ran {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command that must end well, and gives its standard output.
pub fn run_well(command: &mut Command) -> String {
    let ran = run(command);
    assert_eq!(ran.status, Some(0), "{command:?}\n{}\n{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// The command with a limit on the size of files (in blocks of 512 bytes), which fails writes as a full disk does.
#[cfg(unix)]
pub fn with_little_space(command: &Command, blocks: usize) -> Command {
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"")).arg("sh");
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.stdin(Stdio::null());
    limited
}

/// The folder of real data sets: `SIPF_DATA`, else `../shared/data` beside the workspace. `None` says that the
/// caller skips, and why.
pub fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("SIPF_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| workspace().join("../shared/data"));
    let there = folder.is_dir();
    if !there {
        skipped(&format!("no folder of data sets at {} (set SIPF_DATA)", folder.display()));
    }
    there.then_some(folder)
}

/// Says that something is not tested here, on standard error, past the test harness's capture.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// How often a test of interruptions kills: `SIPF_TEST_KILLS`, else twice.
pub fn kills() -> usize {
    std::env::var("SIPF_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(2)
}
