//! Compiled code in the user's cache folder: made once per machine and wasmtime version, then mapped in milliseconds.
//!
//! The file is run as native code, so it is taken only from a folder that belongs to this user, that nobody else
//! may write to, on a path that nobody else may change, and only when its bytes are those that were written.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::artifact;
use crate::error::{Error, Result};

/// How the component came to be ready.
#[derive(Debug, Clone)]
pub struct Start {
    /// The file, where there is a folder for it.
    pub path: Option<PathBuf>,
    /// What was found there.
    pub found: Found,
    /// Time until it was ready.
    pub took: Duration,
}

/// What the cache held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Compiled code that was written before.
    Hit,
    /// Nothing; it was compiled and written.
    Written,
    /// It was compiled and not written, for this reason.
    Kept(String),
}

/// The folder: `SIPF_CACHE_DIR`, else `sipf` in the user's cache folder.
pub fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SIPF_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("sipf")))
        .or_else(|| set("HOME").map(|path| path.join(".cache").join("sipf")))
}

/// The component, from the cache or compiled now.
///
/// # Errors
/// When the bundled component is damaged or does not compile; never because of the cache.
pub(crate) fn component(engine: &Engine, folder: Option<&Path>) -> Result<(Component, Start)> {
    let begun = Instant::now();
    let path = folder.map(|folder| folder.join(file_name(engine)));
    let mut reason = "there is neither SIPF_CACHE_DIR nor a home folder".to_owned();
    if let (Some(folder), Some(path)) = (folder, &path) {
        match prepare(folder).and_then(|()| read(engine, path)) {
            Ok(Some(component)) => {
                return Ok((
                    component,
                    Start { path: Some(path.clone()), found: Found::Hit, took: begun.elapsed() },
                ));
            }
            Ok(None) => {
                let compiled = engine.precompile_component(&artifact::unpack()?)?;
                match write(path, &compiled).and_then(|()| read(engine, path)) {
                    Ok(Some(component)) => {
                        let start =
                            Start { path: Some(path.clone()), found: Found::Written, took: begun.elapsed() };
                        return Ok((component, start));
                    }
                    Ok(None) => reason = format!("{}: was changed while it was written", path.display()),
                    Err(error) => reason = error.to_string(),
                }
            }
            Err(error) => reason = error.to_string(),
        }
    }
    let component = Component::new(engine, artifact::unpack()?)?;
    Ok((component, Start { path, found: Found::Kept(reason), took: begun.elapsed() }))
}

fn file_name(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("python-{}-{:016x}.cwasm", &artifact::SHA256[..16], hasher.finish())
}

fn refused(path: &Path, why: impl Into<String>) -> Error {
    Error::Cache { path: path.to_owned(), why: why.into() }
}

fn unusable(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| refused(path, error.to_string())
}

/// Makes the folder and checks who may write on the way to it.
fn prepare(folder: &Path) -> Result<()> {
    make(folder).map_err(unusable(folder))?;
    let folder = folder.canonicalize().map_err(unusable(folder))?;
    private(&folder)
}

#[cfg(unix)]
fn make(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// Nobody but this user and root may put a file here, nor put another folder in its place.
#[cfg(unix)]
fn private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    #[expect(unsafe_code, reason = "std does not tell the user id")]
    // SAFETY: geteuid takes nothing, always succeeds and touches no memory.
    let me = unsafe { libc::geteuid() };
    for (depth, place) in folder.ancestors().enumerate() {
        let found = std::fs::metadata(place).map_err(unusable(place))?;
        let (open, sticky) = (found.mode() & 0o022 != 0, found.mode() & 0o1000 != 0);
        if found.uid() != me && (depth == 0 || found.uid() != 0) {
            return Err(refused(place, "belongs to another user; set SIPF_CACHE_DIR to a folder of yours"));
        }
        if open && (depth == 0 || !sticky) {
            return Err(refused(
                place,
                "others may write here; take that right away (chmod go-w) or set SIPF_CACHE_DIR",
            ));
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn private(_: &Path) -> Result<()> {
    Ok(())
}

/// The note beside the file: its hash, and the size and time that spare reading it all at every start.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Note {
    sha256: String,
    bytes: u64,
    modified: u128,
}

fn note_path(path: &Path) -> PathBuf {
    path.with_extension("json")
}

fn stamp(path: &Path) -> std::io::Result<(u64, u128)> {
    let found = std::fs::symlink_metadata(path)?;
    if !found.is_file() {
        return Err(std::io::Error::other("is no plain file"));
    }
    let modified = found.modified()?.duration_since(UNIX_EPOCH).map_err(std::io::Error::other)?;
    Ok((found.len(), modified.as_nanos()))
}

/// The component in the file; `None` where there is none, or not the one that was written.
fn read(engine: &Engine, path: &Path) -> Result<Option<Component>> {
    let (Ok((bytes, modified)), Ok(note)) = (stamp(path), std::fs::read(note_path(path))) else {
        return Ok(None);
    };
    let Ok(note) = serde_json::from_slice::<Note>(&note) else { return Ok(None) };
    if (note.bytes, note.modified) != (bytes, modified) {
        let data = std::fs::read(path).map_err(unusable(path))?;
        if artifact::hex(&Sha256::digest(&data)) != note.sha256 {
            return Ok(None);
        }
    }
    only_mine(path)?;
    #[expect(unsafe_code, reason = "mapping compiled code is the point of this file")]
    // SAFETY: the file is one that this program wrote: its folder belongs to this user, nobody else may write to it
    // or replace it (`private`), and its hash or its unchanged size and time say that it is the file written.
    let component = unsafe { Component::deserialize_file(engine, path) };
    Ok(component.ok()) // another wasmtime wrote it: compile again
}

#[cfg(unix)]
fn only_mine(path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::symlink_metadata(path).map_err(unusable(path))?;
    match found.mode() & 0o022 {
        0 => Ok(()),
        _ => Err(refused(path, "others may write to it; delete it")),
    }
}

#[cfg(not(unix))]
fn only_mine(_: &Path) -> Result<()> {
    Ok(())
}

fn write(path: &Path, compiled: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let put = |path: &Path, data: &[u8]| -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?; // 0600
        file.write_all(data)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    put(path, compiled).map_err(unusable(path))?;
    let (bytes, modified) = stamp(path).map_err(unusable(path))?;
    let note = Note { sha256: artifact::hex(&Sha256::digest(compiled)), bytes, modified };
    let note = serde_json::to_vec(&note).map_err(|error| refused(path, error.to_string()))?;
    put(&note_path(path), &note).map_err(unusable(path))
}
