//! Whether the place of a result can be written, asked before any work is done for it.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};

/// Sees whether a folder can be made and written. Nothing is left behind.
///
/// # Errors
/// When it cannot: the message names flag, path and cause, and says what to do.
pub(crate) fn folder(flag: &str, path: &Path) -> anyhow::Result<()> {
    ensure!(
        path.is_dir() || !path.exists(),
        "{flag} {}: a file stands there; name another place",
        path.display()
    );
    below(flag, path, path)
}

/// Sees whether a file can be written, and makes the folder that it goes to. A device or a pipe is left alone.
///
/// # Errors
/// As [`folder`].
pub(crate) fn file(flag: &str, path: &Path) -> anyhow::Result<()> {
    ensure!(!path.is_dir(), "{flag} {}: is a folder; name a file", path.display());
    ensure!(path.file_name().is_some(), "{flag} {}: names no file", path.display());
    if path.exists() && !path.is_file() {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    below(flag, path, folder)?;
    std::fs::create_dir_all(folder).with_context(|| format!("{flag} {}", path.display()))
}

/// Tries to make a file in the part of `folder` that is there already.
fn below(flag: &str, path: &Path, folder: &Path) -> anyhow::Result<()> {
    let there = folder.ancestors().find(|part| part.exists()).unwrap_or(Path::new("."));
    let (path, shown) = (path.display(), there.display());
    ensure!(there.is_dir(), "{flag} {path}: {shown} is a file and no folder; name another place");
    let open = |name: &Path| File::options().write(true).create_new(true).open(name);
    let tried = tempfile::Builder::new().prefix(".sipf-").suffix(".new").make_in(there, open);
    tried.map(drop).map_err(|cause| {
        anyhow!("{flag} {path}: nothing can be written in {shown}: {cause}; name another place")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_a_folder_leaves_nothing_and_asking_for_a_file_makes_its_folder() {
        let place = tempfile::tempdir().expect("a folder");
        folder("--out", &place.path().join("a/b")).expect("can be written");
        assert_eq!(std::fs::read_dir(place.path()).expect("listed").count(), 0);
        file("--out", &place.path().join("a/b.jsonl")).expect("can be written");
        assert!(place.path().join("a").is_dir() && !place.path().join("a/b.jsonl").exists());
        file("--out", Path::new("/dev/null")).expect("a device");
        assert!(file("--out", place.path()).is_err_and(|error| error.to_string().contains("is a folder")));
    }
}
