//! Plugins: one trait behind every transport, and whatever a plugin does, a message instead of a dead run.
//!
//! The fixtures under `tests/plugins/` are built here by a nested cargo, in target folders of their own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use sipf_plugin_host::Library;
use sipf_plugin_host::open::open;
use sipf_plugin_host::probe::Prober;
use sipf_tests::{binary, cargo, run_well, skipped, target, workspace};

mod allocator;
mod api_1_0;
mod discovery;
mod faults;
mod parity;
mod python;
mod rewards;
mod scaffold;
mod wasm_faults;

pub(crate) use allocator::Marking;

/// The Rust compiler that Debian packages, another version than the one that builds this test.
const OTHER_COMPILER: &str = "/usr/bin/rustc";
const WASM: &str = "wasm32-unknown-unknown";

/// A nested cargo: cheap optimisation, no debug data, the versions of this workspace's lock file.
fn nested(package: &Path, target: &Path) -> Command {
    std::fs::copy(workspace().join("Cargo.lock"), package.join("Cargo.lock")).expect("a lock file");
    let mut command = cargo();
    command.current_dir(package).env("CARGO_TARGET_DIR", target).env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0").env_remove("RUSTFLAGS");
    command
}

fn fixtures() -> PathBuf {
    workspace().join("tests/plugins")
}

/// Builds examples of `tests/plugins` and gives the folder they lie in.
fn build(target: &Path, examples: &[&str], add: impl FnOnce(&mut Command)) -> PathBuf {
    // Cargo's own lock guards the folder; this one guards the copied lock file.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut command = nested(&fixtures(), target);
    command.args(["build", "--quiet"]);
    for example in examples {
        command.args(["--example", example]);
    }
    add(&mut command);
    let on_wasm = command.get_args().any(|argument| argument == WASM);
    run_well(&mut command);
    let folder = if on_wasm { target.join(WASM) } else { target.to_path_buf() };
    folder.join("debug/examples")
}

fn library(folder: &Path, example: &str) -> PathBuf {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    folder.join(format!("{DLL_PREFIX}{example}{DLL_SUFFIX}"))
}

/// A fixture as a native library, built by the compiler of this test.
fn native(example: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let all = [
        "built_in",
        "every_call",
        "own_allocator",
        "panics",
        "breaks_abi",
        "wrong_abi",
        "no_call",
        "aborts_at_load",
        "hangs_at_load",
    ];
    library(BUILT.get_or_init(|| build(&target().join("plugins"), &all, |_| ())), example)
}

/// A fixture as a native library, built by Debian's compiler; `None` says that the caller skips.
fn native_by_other_compiler(example: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let other = version(OTHER_COMPILER)?;
        let ours = version(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))?;
        if other == ours {
            skipped(&format!("{OTHER_COMPILER} is this test's own compiler"));
            return None;
        }
        Some(build(&target().join("plugins-other"), &["built_in", "every_call"], |command| {
            command.env("RUSTC", OTHER_COMPILER);
        }))
    });
    folder.as_ref().map(|folder| library(folder, example))
}

/// A fixture as a WASM module; `None` says that the caller skips.
fn wasm(example: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let examples = ["built_in", "every_call", "panics"];
        let root = sysroot(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))?;
        if root.join("lib/rustlib").join(WASM).is_dir() {
            return Some(build(&target().join("plugins-other"), &examples, |command| {
                command.args(["--target", WASM]);
            }));
        }
        // Without the target's standard library it is compiled from Debian's sources, by Debian's compiler.
        let source = sysroot(OTHER_COMPILER)?.join("lib/rustlib/src/rust/library/std");
        let linker = Command::new("wasm-ld").arg("--version").output().is_ok();
        if !source.is_dir() || !linker {
            skipped(
                "no wasm32 target, and no sources of the standard library (rust-web-src) or wasm-ld (lld)",
            );
            return None;
        }
        Some(build(&target().join("plugins-other"), &examples, |command| {
            command.args(["--target", WASM, "-Z", "build-std=std,panic_abort"]);
            command.env("RUSTC", OTHER_COMPILER).env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld");
        }))
    });
    folder.as_ref().map(|folder| folder.join(format!("{example}.wasm")))
}

fn version(compiler: impl AsRef<OsStr>) -> Option<String> {
    ask(compiler, &["--version"])
}

fn sysroot(compiler: impl AsRef<OsStr>) -> Option<PathBuf> {
    ask(compiler, &["--print", "sysroot"]).map(PathBuf::from)
}

fn ask(compiler: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let compiler = compiler.as_ref();
    match Command::new(compiler).args(arguments).output() {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        _ => {
            skipped(&format!("no Rust compiler at {}", compiler.display()));
            None
        }
    }
}

fn prober() -> Prober {
    Prober::new(binary())
}

fn opened(path: &Path) -> Arc<Library> {
    open(path, &prober()).unwrap_or_else(|error| panic!("{error}"))
}

/// Takes a task through the whole loop with so little training that it lasts seconds, and sees that every stage has
/// worked on its problems.
fn loops(sipf: &mut Command, task: &Path, name: &str, place: &Path) {
    sipf.args(["run", "--model", "tiny", "--limit", "6", "--iterations", "1", "--json", "--task"]).arg(task);
    // So little a model is never right: pairs by margin alone give it something to learn from.
    sipf.args(["--pair-policy", "margin_only", "--margin", "0.0001", "--rollouts", "2"]);
    for small in ["sft.epochs=2", "evaluate.problems=4", "sample.max-attempts=4", "align.epochs=1"] {
        sipf.args(["--set", small]);
    }
    let outcome: Value = serde_json::from_str(&run_well(sipf.arg("--run-dir").arg(place))).unwrap();
    assert_eq!(outcome["baseline"]["problems"], 4, "{outcome}");
    assert_eq!(outcome["iterations"].as_array().unwrap().len(), 1, "{outcome}");
    for file in ["iter-0/samples.jsonl", "iter-0/labels.jsonl", "iter-1/scores.jsonl", "iter-1/pairs.jsonl"] {
        let text = std::fs::read_to_string(place.join(file)).unwrap();
        assert!(text.contains(&format!("{name}/train/")), "{file}: {text}");
    }
    assert!(place.join("iter-1/policy/model.safetensors").is_file());
    assert!(std::fs::read_to_string(place.join("report.html")).unwrap().contains(name));
}

/// Why a file is refused.
fn refusal(path: &Path) -> String {
    match open(path, &prober()) {
        Ok(_) => panic!("{} opens", path.display()),
        Err(error) => error.to_string(),
    }
}
