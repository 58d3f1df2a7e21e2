//! WASM modules that misbehave, written as text: a loop, an import, too much memory, a panic, a lie.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sipf_plugin::{Problem, Role};

use super::{opened, refusal, wasm};

const MANIFEST: &str =
    r#"{"api": {"major": 1, "minor": 0}, "name": "m", "version": "1", "tasks": [{"name": "m"}]}"#;

/// The body of every call but `manifest`, whose request is by far the shortest.
fn module(manifest: &str, call: &str) -> String {
    let data: String = manifest.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        r#"(module
            (memory (export "memory") 2)
            (data (i32.const 1024) "{data}")
            (global $top (mut i32) (i32.const 65536))
            (func (export "sipf_abi") (result i32) (i32.const 1))
            (func (export "sipf_free") (param i32 i32))
            (func (export "sipf_alloc") (param i32) (result i32)
                (global.get $top) (global.set $top (i32.add (global.get $top) (local.get 0))))
            (func $reply (param $block i32) (param $at i32) (param $len i32)
                (i32.store (local.get $block) (local.get $at))
                (i32.store offset=4 (local.get $block) (local.get $len)))
            (func (export "sipf_call") (param $request i32) (param $len i32) (param $reply i32) (result i32)
                (if (i32.lt_u (local.get $len) (i32.const 40)) (then
                    (call $reply (local.get $reply) (i32.const 1024) (i32.const {}))
                    (return (i32.const 0))))
                {call}))"#,
        manifest.len()
    )
}

struct Written {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn written(text: &str) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.wasm");
    std::fs::write(&path, text).unwrap();
    Written { _folder: folder, path }
}

/// What a call of the module ends in.
fn said(call: &str) -> String {
    let file = written(&module(MANIFEST, call));
    let task = opened(&file.path).task("m").unwrap();
    let text = task.prompt(&Problem::new("p/0", "long enough to be no manifest"), Role::Policy).unwrap_err();
    let text = text.to_string();
    assert!(text.lines().count() == 1 && text.contains("m.wasm") && text.contains("call prompt"), "{text}");
    text
}

fn why(text: &str) -> String {
    refusal(&written(text).path)
}

#[test]
fn an_endless_loop_is_stopped_and_the_next_call_is_answered() {
    let start = Instant::now();
    let text = said("(loop (br 0)) (i32.const 0)");
    assert!(
        text.contains("used up its 10000000000 units of fuel") && start.elapsed() < Duration::from_secs(20),
        "{text}"
    );
    let ended = said("(call $reply (local.get $reply) (i32.const 1024) (i32.const 4)) (i32.const 1)");
    assert!(ended.ends_with("{\"ap"), "an error's text is the reply: {ended}");
}

#[test]
fn greed_traps_and_lies_end_the_call_only() {
    for (call, part) in [
        ("(drop (memory.grow (i32.const 65000))) (i32.const 0)", "more than 256 MiB of memory"),
        ("(unreachable)", "without a word"),
        ("(drop (i32.load (i32.const -8))) (i32.const 0)", "trapped"),
        (
            "(call $reply (local.get $reply) (i32.const 131000) (i32.const 4000)) (i32.const 0)",
            "outside its memory",
        ),
        (
            "(call $reply (local.get $reply) (i32.const 0) (i32.const 67108865)) (i32.const 0)",
            "over the limit",
        ),
        (
            "(call $reply (local.get $reply) (i32.const 1024) (i32.const 3)) (i32.const 0)",
            "something else than asked",
        ),
        ("(i32.const 42)", "status 42"),
        ("(i32.const 3)", "is not answered"),
    ] {
        let text = said(call);
        assert!(text.contains(part), "{call}: {text}");
    }
}

#[test]
fn a_module_with_an_import_or_without_a_function_is_refused() {
    let import = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32))))"#;
    assert!(why(import).contains("imports wasi_snapshot_preview1.fd_write"), "{}", why(import));
    assert!(why("(module)").contains("no memory"), "{}", why("(module)"));
    let bare = r#"(module (memory (export "memory") 1))"#;
    assert!(why(bare).contains("no function `sipf_abi`"), "{}", why(bare));
    let other =
        r#"(module (memory (export "memory") 1) (func (export "sipf_abi") (result i32) (i32.const 9)))"#;
    assert!(why(other).contains("ABI 9"), "{}", why(other));
    assert!(why("not a module").contains("no WebAssembly module"));
}

#[test]
fn a_manifest_that_cannot_be_used_says_why() {
    let manifest = |text: &str| why(&module(text, "(i32.const 3)"));
    let with = |old: &str, new: &str| manifest(&MANIFEST.replace(old, new));
    assert!(with("\"major\": 1", "\"major\": 2").contains("plugin API 2.0, this sipf speaks 1.0"));
    assert!(with("[{\"name\": \"m\"}]", "[]").contains("neither a task nor a reward model"));
    assert!(with("[{\"name\": \"m\"}]", "[{\"name\": \"M m\"}]").contains("\"M m\""));
    assert!(
        with("[{\"name\": \"m\"}]", "[{\"name\": \"m\"}, {\"name\": \"m\"}]").contains("exports \"m\" twice")
    );
    assert!(manifest("{}").contains("manifest"), "{}", manifest("{}"));
    // A later minor version of the schema, with keys that this host has not heard of, is fine.
    let newer =
        MANIFEST.replace("\"minor\": 0", "\"minor\": 9, \"more\": 1").replace("[{", "[{\"new\": {}, ");
    let file = written(&module(&newer, "(i32.const 3)"));
    assert_eq!(opened(&file.path).manifest().api.minor, 9);
}

#[test]
fn a_panic_in_a_module_keeps_its_text() {
    let Some(plugin) = wasm("panics") else { return };
    let task = opened(&plugin).task("panics").unwrap();
    let text = task.verify(&Problem::new("p/0", "x"), "short").unwrap_err().to_string();
    assert!(
        ["call verify", "panicked", "index is 100", "panics.rs:"].iter().all(|part| text.contains(part)),
        "{text}"
    );
    assert_eq!(task.prompt(&Problem::new("p/0", "x"), Role::Policy).unwrap(), "x");
}
