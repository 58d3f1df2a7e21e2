//! The bundled interpreter, and the folder of compiled code: trusted only where nobody else may write.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use sipf_sandbox::{Found, PACKED_SHA256, SOURCES_SHA256, Sandbox, SandboxOptions, packed_sha256, unpack};
use sipf_tests::{run, sipf, skipped, workspace};

#[test]
fn the_bundled_interpreter_is_the_one_that_was_released() {
    assert_eq!(packed_sha256(), PACKED_SHA256);
    let component = unpack().unwrap(); // checks the hash of what is inside
    assert_eq!(&component[..4], b"\0asm");
    let licences = std::fs::read_to_string(workspace().join("sandbox/artifact/LICENSES.md")).unwrap();
    assert!(licences.contains(sipf_sandbox::SHA256), "LICENSES.md names another artifact");
}

/// The guest's sources, in the order in which `build.sh` takes them.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => sources(&path, found),
            Some("py" | "wit") => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn the_interpreter_is_built_from_the_sources_beside_it() {
    let guest = workspace().join("sandbox/guest");
    let mut files = Vec::new();
    sources(&guest, &mut files);
    files.sort_by_key(|path| path.to_str().unwrap().to_owned());
    let all: Vec<u8> = files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    let sum: String = Sha256::digest(&all).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum, SOURCES_SHA256, "the guest changed: build the artifact anew (sandbox/guest/build.sh)");

    // Two builds never have the same bytes, so a new one is compared by what it offers.
    let folder = tempfile::tempdir().unwrap();
    let built = folder.path().join("python.wasm");
    let ran = Command::new("componentize-py")
        .args(["-d", "wit", "-w", "python", "componentize", "app", "-p", ".", "-o"])
        .arg(&built)
        .current_dir(&guest)
        .output();
    let Ok(ran) = ran else {
        return skipped("building the interpreter anew: componentize-py is not installed; its hashes hold");
    };
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let (new, old) = (std::fs::read(built).unwrap(), unpack().unwrap());
    assert!(new.len().abs_diff(old.len()) < old.len() / 50, "{} bytes, {} before", new.len(), old.len());
    for export in ["load", "call", "check", "task-load", "task-call"] {
        let has = |bytes: &[u8]| bytes.windows(export.len()).any(|window| window == export.as_bytes());
        assert!(has(&new) && has(&old), "{export}");
    }
}

#[test]
fn without_a_home_the_interpreter_is_compiled_for_one_command() {
    let mut command = sipf();
    command.env_remove("HOME").env_remove("XDG_CACHE_HOME").args(["doctor", "--json"]);
    let ran = run(&mut command);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("neither SIPF_CACHE_DIR nor a home folder"), "{}", ran.stdout);
}

/// Compiles the interpreter three times: the slowest test of the sandbox.
#[cfg(unix)]
#[test]
fn compiled_code_is_kept_privately_used_again_and_refused_where_others_may_write() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("made/by/sipf");
    let start = || {
        let options = SandboxOptions { cache: Some(folder.clone()), threads: 1, ..SandboxOptions::default() };
        Sandbox::new(options).unwrap().start().clone()
    };
    let first = start();
    assert_eq!(first.found, Found::Written);
    let file = first.path.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&folder)), (0o600, 0o700));
    let second = start();
    assert_eq!(second.found, Found::Hit);
    assert!(second.took < first.took / 4, "{:?} after {:?}", second.took, first.took);

    // A byte changed, or a folder opened to others: not run.
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    match start().found {
        Found::Kept(why) => assert!(why.contains("others may write") && why.contains("chmod"), "{why}"),
        found => panic!("{found:?}"),
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(start().found, Found::Written, "a damaged file is replaced");
    assert_eq!(start().found, Found::Hit);
}
