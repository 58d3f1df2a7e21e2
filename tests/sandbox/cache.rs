//! The bundled interpreter, and the folder of compiled code: trusted only where nobody else may write.

use sipf_sandbox::{Found, PACKED_SHA256, Sandbox, SandboxOptions, packed_sha256, unpack};
use sipf_tests::{skipped, workspace};

#[test]
fn the_bundled_interpreter_is_the_one_that_was_released() {
    assert_eq!(packed_sha256(), PACKED_SHA256);
    let component = unpack().unwrap(); // checks the hash of what is inside
    assert_eq!(&component[..4], b"\0asm");
    let licences = std::fs::read_to_string(workspace().join("sandbox/artifact/LICENSES.md")).unwrap();
    assert!(licences.contains(sipf_sandbox::SHA256), "LICENSES.md names another artifact");
    skipped("building the interpreter anew: two builds never have the same bytes (docs/sandbox.md)");
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
