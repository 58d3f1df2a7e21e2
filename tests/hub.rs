//! Data sets by name: fetched from the Hub once, then taken from the cache, and a clear word where neither is there.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sipf_tests::{run, run_well, sipf, workspace};

#[path = "../core/src/hub/shelf.rs"]
mod shelf;

use shelf::{COMMIT, Shelf, serve};

const FILE: &str = "main/test-00000-of-00001.parquet";

/// The references of three published problems, with a Hub at this address and a cache in this folder.
fn verify(home: &Path, address: &str) -> Command {
    let mut command = sipf();
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HF_")) {
        command.env_remove(name);
    }
    command.env("HF_HOME", home).env("HF_ENDPOINT", address).env_remove("TRANSFORMERS_OFFLINE");
    command.args("verify --task gsm8k --split test --reference --limit 3 --json".split(' '));
    command
}

#[test]
fn a_data_set_by_name_is_fetched_once_and_then_needs_no_network() {
    let home = tempfile::tempdir().unwrap();
    let published = std::fs::read(workspace().join("tests/fixtures/gsm8k.parquet")).unwrap();
    let (address, shelf) = serve(Shelf::with(&[(FILE, &published)]));
    let counts: Value = serde_json::from_str(&run_well(&mut verify(home.path(), &address))).unwrap();
    assert_eq!((&counts["passed"], &counts["total"]), (&3.into(), &3.into()), "{counts}");
    let asked = shelf.asked();
    assert!(asked.iter().all(|line| line.contains("/datasets/openai/gsm8k/resolve/main/")), "{asked:?}");
    let cached = home.path().join("hub/datasets--openai--gsm8k/snapshots").join(COMMIT).join(FILE);
    assert_eq!(std::fs::read(cached).unwrap(), published);

    let again = run_well(verify(home.path(), &address).env("HF_HUB_OFFLINE", "1"));
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), counts);
    assert_eq!(run_well(&mut verify(home.path(), &address)), again);
    assert_eq!(shelf.asked(), asked, "what is cached is not asked for");
}

#[test]
fn a_data_set_that_is_neither_cached_nor_to_be_had_says_which_file_to_put_where() {
    let home = tempfile::tempdir().unwrap();
    let (address, shelf) = serve(Shelf::default());
    for (offline, why) in [("1", "HF_HUB_OFFLINE is set"), ("0", "no such repository, revision or file")] {
        let ran = run(verify(home.path(), &address).env("HF_HUB_OFFLINE", offline));
        assert_eq!((ran.status, &*ran.stdout), (Some(2), ""), "{}", ran.stderr);
        let put = "put the file at DIR/gsm8k/test.jsonl and say --data DIR";
        for said in [why, FILE, put] {
            assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
        }
    }
    assert!(shelf.asked().iter().all(|line| line.contains(FILE)));
    let ran = run(&mut verify(home.path(), "http://127.0.0.1:9"));
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("127.0.0.1:9") && ran.stderr.contains("--data DIR"), "{}", ran.stderr);
}
