//! A local server stands in for the Hub: what is asked, cached, resumed, checked and refused.

use std::sync::Mutex;

use super::shelf::{COMMIT, Shelf, serve};
use super::*;

fn remote<'a>(path: &'a str, sha256: Option<&'a str>) -> Remote<'a> {
    Remote { kind: Kind::Dataset, repository: "owner/name", revision: "main", path, sha256 }
}

fn hub(folder: &tempfile::TempDir, address: &str) -> Hub {
    Hub::new(folder.path(), address, false)
}

#[test]
fn a_file_is_fetched_once_into_the_standard_layout() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, shelf) = serve(Shelf::with(&[("data/a.jsonl", b"{}\n")]));
    let hub = hub(&folder, &address);
    let path = hub.file(&remote("data/a.jsonl", None)).expect("the file");
    assert_eq!(std::fs::read(&path).expect("bytes"), b"{}\n");
    let base = folder.path().join("datasets--owner--name");
    assert_eq!(path, base.join("snapshots").join(COMMIT).join("data/a.jsonl"));
    assert_eq!(std::fs::read_to_string(base.join("refs/main")).expect("the reference"), COMMIT);
    let link = std::fs::read_link(&path).expect("a link");
    assert!(link.starts_with("../../../blobs"), "{link:?}");
    let before = shelf.asked().len();
    assert_eq!(hub.file(&remote("data/a.jsonl", None)).expect("the copy"), path);
    assert_eq!(shelf.asked().len(), before, "a cached file asks nothing");
    let offline = Hub::new(folder.path(), &address, true);
    assert_eq!(offline.file(&remote("data/a.jsonl", None)).expect("the copy"), path);
}

#[test]
fn checksum_and_commit_come_from_the_hub_not_from_its_storage() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, shelf) = serve(Shelf { storage: true, ..Shelf::with(&[("big.bin", &[7; 5000])]) });
    let mut hub = hub(&folder, &address);
    hub.token = Some("secret".into());
    let path = hub.file(&remote("big.bin", None)).expect("the file");
    assert_eq!(std::fs::metadata(&path).expect("the file").len(), 5000);
    assert!(path.to_string_lossy().contains(COMMIT));
    let asked = shelf.asked();
    assert!(asked.iter().any(|line| line.contains("resolve") && line.contains("bearer secret")), "{asked:?}");
    assert!(asked.iter().all(|line| !line.contains("storage") || line.contains("token=None")), "{asked:?}");
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let body: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let (address, shelf) = serve(Shelf { break_off: Mutex::new(5), ..Shelf::with(&[("w", &body)]) });
    let hub = hub(&folder, &address);
    let error = hub.file(&remote("w", None)).expect_err("five answers break off").to_string();
    assert!(error.contains("broke off") && error.contains("again"), "{error}");
    let path = hub.file(&remote("w", None)).expect("the second call goes on");
    assert_eq!(std::fs::read(path).expect("bytes"), body);
    assert!(shelf.asked().iter().filter(|line| line.contains("from=Some")).count() >= 4);
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, _) = serve(Shelf { lie: Some("ab".repeat(32)), ..Shelf::with(&[("x", b"abc")]) });
    let error = hub(&folder, &address).file(&remote("x", None)).expect_err("a wrong sum").to_string();
    assert!(error.contains("SHA-256"), "{error}");
    let wanted = "cd".repeat(32);
    let (address, _) = serve(Shelf::with(&[("x", b"abc")]));
    let error =
        hub(&folder, &address).file(&remote("x", Some(&wanted))).expect_err("a wrong sum").to_string();
    assert!(error.contains(&wanted), "{error}");
    assert!(hub(&folder, &address).cached(&remote("x", None)).is_none());
}

#[test]
fn small_files_are_checked_as_git_blobs() {
    let folder = tempfile::tempdir().expect("a folder");
    // `printf abc | git hash-object --stdin`
    let true_sum = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f";
    let (address, _) = serve(Shelf { lie: Some(true_sum.into()), ..Shelf::with(&[("x", b"abc")]) });
    assert!(hub(&folder, &address).file(&remote("x", None)).is_ok());
    let (address, _) = serve(Shelf { lie: Some("0".repeat(40)), ..Shelf::with(&[("y", b"abc")]) });
    let error = hub(&folder, &address).file(&remote("y", None)).expect_err("a wrong sum").to_string();
    assert!(error.contains("git checksum"), "{error}");
}

#[test]
fn eight_threads_fetch_a_file_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, shelf) = serve(Shelf::with(&[("x", &[1; 200_000])]));
    let hub = hub(&folder, &address);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| hub.file(&remote("x", None)).expect("the file"));
        }
    });
    assert_eq!(shelf.asked().iter().filter(|line| line.starts_with("GET")).count(), 1);
}

#[test]
fn a_model_s_folder_has_configuration_tokenizer_and_every_shard() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let (address, shelf) = serve(Shelf::with(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"1"),
        ("model-2.safetensors", b"2"),
        ("pytorch_model.bin", b"not wanted"),
        ("onnx/model.onnx", b"not wanted"),
    ]));
    let hub = hub(&folder, &address);
    let model = hub.model("owner/name", "main").expect("a model");
    for file in ["config.json", "tokenizer.json", "model-1.safetensors", "model-2.safetensors"] {
        assert!(model.join(file).is_file(), "{file}");
    }
    assert!(!model.join("pytorch_model.bin").exists());
    let before = shelf.asked().len();
    assert_eq!(Hub::new(folder.path(), &address, true).model("owner/name", "main").expect("cached"), model);
    assert_eq!(shelf.asked().len(), before);
}

#[test]
fn what_cannot_be_had_says_why_and_where_it_belongs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, _) = serve(Shelf::default());
    let error = hub(&folder, &address).file(&remote("nope", None)).expect_err("not there").to_string();
    assert!(error.contains("404") && error.contains("no such"), "{error}");
    let error = Hub::new(folder.path(), &address, true).file(&remote("nope", None)).expect_err("offline");
    let error = error.to_string();
    assert!(error.contains("HF_HUB_OFFLINE") && error.contains("snapshots"), "{error}");
    for path in ["../x", "a/../../x", "/etc/passwd", ""] {
        assert!(hub(&folder, &address).file(&remote(path, None)).is_err(), "{path:?}");
    }
    let gone = Hub::new(folder.path(), "http://127.0.0.1:9", false);
    assert!(gone.file(&remote("x", None)).is_err());
}
