//! `--config FILE.toml`: keys under the names of a command's flags, and of its stage's own settings.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use toml::Value;

use super::Config;

/// Commands with settings that are no flags, and the section of a recipe that is theirs.
const WITH_KEYS: [(&[&str], &str); 5] = [
    (&["run"], ""),
    (&["plan"], ""),
    (&["sample"], "sample"),
    (&["simulate"], "simulate"),
    (&["align", "pairs"], "pairs"),
];
/// Keys of a recipe's top that mean the same to every stage.
const OF_ALL_STAGES: [&str; 5] = ["task", "data", "seed", "threads", "device"];

fn section(path: &[String]) -> Option<&'static str> {
    WITH_KEYS.iter().find(|(command, _)| *command == path).map(|(_, section)| *section)
}

/// Whether a command knows keys beside its flags.
pub(super) fn has_keys(path: &[String]) -> bool {
    section(path).is_some()
}

/// Whether a command takes this key as its own setting rather than as the flag of that name: `limit` of a recipe is one
/// stage's, `--limit` is everything's.
pub(super) fn is_its_own(path: &[String], key: &str) -> anyhow::Result<bool> {
    Ok(section(path) == Some("") && sipf_core::config::defaults()?.contains_key(key))
}

/// Reads the file; of a recipe, a stage takes its own section.
pub(super) fn read(file: &Path, path: &[String]) -> anyhow::Result<Config> {
    let named = || format!("--config {}", file.display());
    let text = sipf_core::text::read(file).map_err(|error| anyhow!("--config {error}"))?;
    let mut keys: toml::Table = text.parse().with_context(named)?;
    if let Some(Value::Table(own)) = section(path).and_then(|section| keys.remove(section)) {
        keys.retain(|key, _| OF_ALL_STAGES.contains(&key));
        keys.extend(own);
    }
    Ok(Config { file: file.to_owned(), keys })
}

/// Takes a key out, written with hyphens or underscores.
pub(super) fn take(keys: &mut toml::Table, long: &str) -> Option<Value> {
    keys.remove(long).or_else(|| keys.remove(&long.replace('-', "_")))
}

/// A value as the words of a flag.
pub(super) fn texts(value: &Value) -> anyhow::Result<Vec<OsString>> {
    Ok(match value {
        Value::Array(values) => {
            let texts: anyhow::Result<Vec<_>> = values.iter().map(texts).collect();
            texts?.concat()
        }
        Value::Table(_) => bail!("is a table; it should be a value"),
        Value::String(text) => vec![text.into()],
        other => vec![other.to_string().into()],
    })
}
