//! The files and folders that a command reads are there, and its result goes to none of them: asked before anything is
//! opened.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{bail, ensure};
use clap::{Arg, ArgMatches, Command};
use sipf_core::iterate::POLICY;
use sipf_core::model::{ModelFolder, tiny::Tiny};

use super::{Given, flags};

/// Where results go.
const OUT: &str = "out";
/// Paths that need not be there.
const MADE: [&str; 4] = [OUT, "into", "run_dir", "plugin_dir"];
/// What stands for a model in the help.
const MODEL: &str = "M";

pub(super) fn check(command: &Command, asked: &ArgMatches, given: &Given) -> anyhow::Result<()> {
    let raw = |id: &str| asked.try_get_raw(id).ok().flatten().into_iter().flatten();
    let out = raw(OUT).next().map(Path::new);
    for arg in command.get_arguments().filter(|arg| !MADE.contains(&arg.get_id().as_str())) {
        for value in raw(arg.get_id().as_str()) {
            let is_file = match is_model(arg) {
                true => model(&name(arg, given), value)?,
                false => flags::is_path(arg),
            };
            let path = Path::new(value);
            ensure!(
                !is_file || path.exists() || is_model(arg),
                "{} {}: there is no such file or folder",
                name(arg, given),
                path.display()
            );
            if let Some(out) = out.filter(|out| is_file && same(path, out)) {
                bail!(
                    "--out {}: is what {} reads, and would be overwritten; write it somewhere else",
                    out.display(),
                    name(arg, given)
                );
            }
        }
    }
    Ok(())
}

fn name(arg: &Arg, given: &Given) -> String {
    let placeholder = || arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    arg.get_long().map_or_else(|| placeholder().unwrap_or_default(), |long| given.name(long))
}

fn is_model(arg: &Arg) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == MODEL))
}

/// Whether a model is a file or folder here; a name that can be none is refused.
fn model(flag: &str, name: &OsStr) -> anyhow::Result<bool> {
    let Some(name) = name.to_str() else { return Ok(true) };
    if name == POLICY || Tiny::named(name).is_some() {
        return Ok(false);
    }
    ModelFolder::check(name).map_err(|error| anyhow::anyhow!("{flag} {error}"))?;
    Ok(true)
}

/// Whether two paths lead to one file or folder.
#[cfg(unix)]
fn same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |path: &Path| path.metadata().ok().filter(|data| data.is_file() || data.is_dir());
    place(a).zip(place(b)).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Whether two paths lead to one file or folder.
#[cfg(not(unix))]
fn same(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file() || path.is_dir());
    place(a).zip(place(b)).is_some_and(|(a, b)| a == b)
}
