//! The architecture's invariants (docs/architecture.md), read off the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sipf_tests::{run_well, sipf, workspace};

/// Every file with `unsafe` in it, and why it has to be there.
const UNSAFE: &[(&str, &str)] = &[
    ("core/cli/src/main.rs", "sets an environment variable before there is a thread"),
    ("core/src/generate/attend.rs", "vector loads over slices whose bounds are checked once per call"),
    ("core/src/generate/draw.rs", "vector loads over scores whose lengths are checked"),
    ("core/src/generate/lanes.rs", "intrinsics behind one trait"),
    ("core/src/model/kernels/matmul.rs", "vector kernels over packed panels"),
    ("core/src/model/kernels/widest.rs", "calls what was compiled for the instruction set just detected"),
    ("core/src/model/load.rs", "memory-mapped weights"),
    ("plugins/api/src/abi.rs", "the plugin ABI: raw buffers"),
    ("plugins/api/src/export.rs", "the plugin ABI: exported functions"),
    ("plugins/host/src/native.rs", "the plugin ABI: loading and calling a shared library"),
    ("sandbox/src/cache.rs", "loading code that was compiled before"),
    ("sandbox/src/cputime.rs", "asking the system for a thread's processor time"),
    ("tests/plugin/allocator.rs", "an allocator that marks its blocks"),
    ("tests/plugins/aborts_at_load.rs", "a library's initialiser"),
    ("tests/plugins/breaks_abi.rs", "the ABI by hand"),
    ("tests/plugins/hangs_at_load.rs", "a library's initialiser"),
    ("tests/plugins/no_call.rs", "the ABI by hand"),
    ("tests/plugins/own_allocator.rs", "an allocator that marks its blocks"),
    ("tests/plugins/wrong_abi.rs", "the ABI by hand"),
];

/// Which folder may name a dependency in its manifests.
const ONLY_UNDER: &[(&str, &str)] = &[
    ("candle-core", "core"),
    ("candle-nn", "core"),
    ("candle-transformers", "core"),
    ("wasmtime", "sandbox"),
    ("wasmtime-wasi", "sandbox"),
    ("libloading", "plugins/host"),
    ("clap", "core/cli"),
];

/// Files below a folder with this extension, as paths from the workspace; build folders and hidden ones left out.
fn files(below: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(workspace()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text(path: impl AsRef<Path>) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a source that are no comment.
fn code(source: &str) -> impl Iterator<Item = &str> {
    source.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// The manifests of the workspace's members, and their dependencies by table.
fn manifests() -> BTreeMap<String, BTreeMap<String, toml::Table>> {
    let paths = files("", "toml").into_iter().filter(|path| path.ends_with("Cargo.toml"));
    let outside = ["Cargo.toml", "plugins/template/Cargo.toml", "tests/plugins/Cargo.toml"];
    paths
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| !outside.contains(&path.as_str()))
        .map(|path| {
            let manifest: toml::Table = text(&path).parse().unwrap();
            let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
            let found =
                tables.iter().filter_map(|name| Some((*name, manifest.get(*name)?.as_table()?.clone())));
            let found = found.map(|(name, table)| (name.to_owned(), table)).collect();
            (path.trim_end_matches("/Cargo.toml").to_owned(), found)
        })
        .collect()
}

#[test]
fn no_task_or_data_set_is_named_in_core() {
    let names = ["gsm8k", "mbpp", "humaneval", "mmlu", "pyfunc"];
    let sources =
        ["rs", "js", "css", "html", "toml"].into_iter().flat_map(|extension| files("core/src", extension));
    for path in sources {
        let source = text(&path).to_lowercase();
        for name in names {
            assert!(!source.contains(name), "{} names {name}", path.display());
        }
    }
}

#[test]
fn heavy_dependencies_stay_where_they_belong() {
    for (folder, tables) in manifests() {
        for (name, _) in tables.values().flatten() {
            for (dependency, allowed) in ONLY_UNDER {
                let inside = folder == *allowed || folder.starts_with(&format!("{allowed}/"));
                // The command only chooses the device's features; it names no tensor.
                assert!(name != dependency || inside, "{folder}/Cargo.toml depends on {name}");
            }
        }
    }
    for path in files("", "rs").iter().filter(|path| !path.starts_with("tests")) {
        let loads = text(path).contains("libloading::");
        assert!(!loads || path.ends_with("plugins/host/src/native.rs"), "{} uses libloading", path.display());
    }
    for path in files("core/cli", "rs") {
        assert!(!code(&text(&path)).any(|line| line.contains("candle_")), "{} uses candle", path.display());
    }
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let arrows: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("core", &["sipf-plugin"][..]),
        ("plugins/api", &[]),
        ("plugins/host", &["sipf-plugin", "sipf-sandbox"]),
        ("plugins/prm", &["sipf-plugin"]),
        ("sandbox", &["sipf-plugin"]),
        ("tasks", &["sipf-plugin"]),
    ]);
    let manifests = manifests();
    for (folder, wanted) in arrows {
        let own = |name: &&String| name.starts_with("sipf");
        let found: BTreeSet<&str> =
            manifests[folder]["dependencies"].keys().filter(own).map(String::as_str).collect();
        assert_eq!(found, wanted.iter().copied().collect(), "{folder}");
    }
    let api: Vec<&String> = manifests["plugins/api"].values().flatten().map(|(name, _)| name).collect();
    assert_eq!(api, ["serde", "serde_json"], "what a plugin's author has to build");
}

#[test]
fn every_dependency_has_one_version() {
    for (folder, tables) in manifests() {
        for (name, value) in tables.values().flatten() {
            let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            assert!(inherited, "{folder}/Cargo.toml: {name} should say `workspace = true`");
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    let marks = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe(", "unsafe trait"];
    let has = |path: &PathBuf| code(&text(path)).any(|line| marks.iter().any(|mark| line.contains(mark)));
    let this = Path::new("tests/tidy.rs");
    let found: BTreeSet<String> = files("", "rs")
        .iter()
        .filter(|path| *path != this && has(path))
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let listed: BTreeSet<String> = UNSAFE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, listed, "a new place needs a reason in tests/tidy.rs");
}

#[test]
fn every_module_says_what_it_is() {
    for path in files("", "rs") {
        let source = text(&path);
        let first = source.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        assert!(first.starts_with("//!"), "{} begins with {first:?}", path.display());
    }
}

#[test]
fn tasks_and_reward_models_are_described_by_one_skeleton() {
    let task = ["Data", "Prompt", "Steps", "Answer", "Verdict", "Reference"];
    for name in ["gsm8k", "mmlu_math", "mbpp", "humaneval", "arith", "pyfunc"] {
        described(&format!("tasks/src/{name}.rs"), &task);
    }
    described("plugins/template/src/lib.rs", &task);
    let reward = ["Base", "Reads", "Score", "Reward", "Training"];
    for path in files("plugins/prm/src", "rs").iter().filter(|path| !path.ends_with("lib.rs")) {
        described(&path.to_string_lossy(), &reward);
    }
}

fn described(path: &str, parts: &[&str]) {
    let source = text(path);
    let mut rest = source.as_str();
    for part in parts {
        let mark = format!("//! - **{part}**:");
        rest = match rest.split_once(&mark) {
            Some((_, rest)) => rest,
            None => panic!("{path} has no line {mark:?} in its place"),
        };
    }
}

/// Every command below `path`, itself included: `["plugin", "new"]`.
fn commands(path: &[String], found: &mut Vec<Vec<String>>) {
    let help = run_well(sipf().args(path).arg("--help"));
    let listed = help.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    // A command is indented by two; what a long description goes on with, by more.
    let lines = listed.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("  "));
    for name in lines.filter_map(|line| line.split(' ').next()).filter(|name| !["", "help"].contains(name)) {
        let below = [path, &[name.to_owned()]].concat();
        commands(&below, found);
        found.push(below);
    }
}

#[test]
fn every_command_is_documented() {
    let docs: String = files("docs", "md").iter().map(text).collect::<String>() + &text("README.md");
    let mut found = Vec::new();
    commands(&[], &mut found);
    assert!(found.len() > 30 && found.contains(&vec!["plugin".into(), "new".into()]), "{found:?}");
    let missing: Vec<String> = found.iter().map(|words| format!("sipf {}", words.join(" "))).collect();
    let missing: Vec<&String> = missing.iter().filter(|command| !docs.contains(*command)).collect();
    assert!(missing.is_empty(), "neither in README.md nor in docs/: {missing:?}");
}

/// The lines of a Markdown file that are no program.
fn prose(source: &str) -> impl Iterator<Item = &str> {
    let mut program = false;
    source.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        program ^= fence;
        !program && !fence
    })
}

/// What a link may name behind `#`, as GitHub makes it of headings.
fn anchors(source: &str) -> BTreeSet<String> {
    let headings = prose(source).filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|heading| heading.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect())
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut links = 0;
    // The template is read where it is copied to.
    for path in files("", "md").iter().filter(|path| !path.starts_with("plugins/template")) {
        let source = text(path);
        let prose: String = prose(&source).map(|line| format!("{line}\n")).collect();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                _ => path.parent().unwrap().join(file),
            };
            assert!(workspace().join(&target).exists(), "{} links to {link}", path.display());
            let known = anchor.is_empty() || anchors(&text(&target)).contains(anchor);
            assert!(known, "{} links to {link}, and there is no such heading", path.display());
        }
    }
    assert!(links > 30, "{links} links");
}

#[test]
fn no_test_is_switched_off() {
    for path in files("", "rs") {
        let switched_off = |line: &str| line.starts_with("#[ignore") || line.starts_with("#[should_panic");
        assert!(!code(&text(&path)).any(switched_off), "{}", path.display());
    }
}
