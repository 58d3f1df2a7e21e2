//! The files of `sipf plugin new`: the template, its name replaced, beside a copy of the API crate. Everything is
//! embedded, so that an installed binary needs no repository.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What the new plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task.
    Task,
    /// A reward model.
    Reward,
}

/// The name that the template bears.
const TEMPLATE: &str = "my-task";

macro_rules! api_files {
    ($($name:literal),* $(,)?) => {
        /// The API crate's sources.
        pub const API_FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../api/src/", $name)))),*];
    };
}
api_files!(
    "abi.rs",
    "call.rs",
    "card.rs",
    "check.rs",
    "conformance.rs",
    "default.rs",
    "dispatch.rs",
    "error.rs",
    "execute.rs",
    "export.rs",
    "layout.rs",
    "lib.rs",
    "manifest.rs",
    "problem.rs",
    "random.rs",
    "reward.rs",
    "signature.rs",
    "task.rs",
    "text.rs",
);

/// Words that no crate can be called by.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield",
];
/// Crates that a plugin's own would hide, and names that cargo keeps to itself.
const CRATES: [&str; 12] = [
    "alloc",
    "build",
    "core",
    "deps",
    "examples",
    "incremental",
    "proc_macro",
    "serde",
    "serde_json",
    "sipf_plugin",
    "std",
    "test",
];

const API_MANIFEST: &str = "[package]
name = \"sipf-plugin\"
version = \"VERSION\"
edition = \"2024\"
rust-version = \"1.85\"
license = \"MIT OR Apache-2.0\"
description = \"What a sipf task or reward-model plugin is written against (a copy, made by `sipf plugin new`)\"

[dependencies]
serde = { version = \"1\", features = [\"derive\"] }
serde_json = { version = \"1\", features = [\"preserve_order\"] }
";

/// Writes `into/NAME/`; refuses where it is there already.
///
/// # Errors
/// When the name is not usable or something cannot be written.
pub fn write(name: &str, kind: Kind, into: &Path) -> Result<PathBuf> {
    let usable = sipf_plugin::manifest::well_formed(name)
        && !name.contains('.')
        && name.starts_with(|c: char| c.is_ascii_lowercase());
    if !usable {
        return Err(Error::Unknown(format!(
            "name {name:?}: use small letters, digits and hyphens, beginning with a letter"
        )));
    }
    let word = name.replace('-', "_");
    if KEYWORDS.contains(&&*word) || CRATES.contains(&&*word) {
        let what = if KEYWORDS.contains(&&*word) {
            "a word of Rust"
        } else {
            "a crate that the plugin is built with"
        };
        return Err(Error::Unknown(format!(
            "name {name:?} is {what}, and cargo would not build it: choose another"
        )));
    }
    let folder = into.join(name);
    if folder.exists() {
        return Err(Error::Unknown(format!("{} is there already", folder.display())));
    }
    for (path, text) in files(name, kind) {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
        std::fs::write(&path, text).map_err(|error| Error::io(&path, error))?;
    }
    Ok(folder)
}

/// The file that cargo builds of a plugin of this name on this system.
pub fn library_file(name: &str) -> String {
    let stem = name.replace('-', "_");
    format!("{}{stem}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

fn files(name: &str, kind: Kind) -> Vec<(PathBuf, String)> {
    let named = |text: &str| {
        text.replace(TEMPLATE, name)
            .replace("LIBRARY", &library_file(name))
            .replace("MyTask", &type_name(name))
            .replace("MyReward", &type_name(name))
    };
    let manifest = include_str!("../../template/Cargo.toml").replace("\"../api\"", "\"sipf-plugin\"");
    let mut files: Vec<(PathBuf, String)> = vec![
        ("Cargo.toml".into(), named(&manifest)),
        (".gitignore".into(), "/target\n".into()),
        ("sipf-plugin/Cargo.toml".into(), API_MANIFEST.replace("VERSION", env!("CARGO_PKG_VERSION"))),
    ];
    match kind {
        Kind::Task => {
            files.push(("src/lib.rs".into(), named(include_str!("../../template/src/lib.rs"))));
            files.push((
                "fixtures/rows.jsonl".into(),
                include_str!("../../template/fixtures/rows.jsonl").into(),
            ));
            files.push(("README.md".into(), named(include_str!("../../template/README.md"))));
        }
        Kind::Reward => {
            files.push(("src/lib.rs".into(), named(include_str!("../../template/reward.rs"))));
            let readme = include_str!("../../template/reward.md");
            files.push(("README.md".into(), named(readme)));
        }
    }
    for (file, text) in API_FILES {
        files.push((Path::new("sipf-plugin/src").join(file), (*text).into()));
    }
    files
}

/// `my-task` as a type: `MyTask`.
fn type_name(name: &str) -> String {
    name.split('-')
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase())
                .into_iter()
                .chain(letters)
                .collect::<String>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_of_the_api_crate_is_complete() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/src");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        let embedded: Vec<&str> = API_FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(there, embedded);
    }

    #[test]
    fn names_become_types_and_files() {
        assert_eq!(type_name("word-sums2"), "WordSums2");
        assert!(library_file("word-sums").contains("word_sums"));
        assert!(write("Word", Kind::Task, Path::new("nowhere")).is_err());
        assert!(write("9lives", Kind::Task, Path::new("nowhere")).is_err());
        for (name, why) in [("fn", "word of Rust"), ("test", "crate"), ("serde-json", "crate")] {
            let error = write(name, Kind::Task, Path::new("nowhere")).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
