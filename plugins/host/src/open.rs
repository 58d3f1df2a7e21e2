//! Opens a plugin file of any kind, each file once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::foreign::Library;
use crate::transport::{Kind, Transport};
use crate::{native, probe, python, wasm};

static OPEN: Mutex<BTreeMap<PathBuf, Arc<Library>>> = Mutex::new(BTreeMap::new());

/// Opens a plugin file: a second call for the same file gives the same library. A native one is probed in a child
/// process first, started as `probe`.
///
/// # Errors
/// When the file is no plugin, or refuses.
pub fn open(path: &Path, probe_with: &probe::Prober) -> Result<Arc<Library>> {
    let path = path.canonicalize().map_err(|error| Error::io(path, error))?;
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = open.get(&path) {
        return Ok(library.clone());
    }
    if Kind::of(&path) == Some(Kind::Native) {
        probe_with.probe(&path)?;
    }
    let library = open_here(&path)?;
    open.insert(path, library.clone());
    Ok(library)
}

/// Opens a plugin file in this process without probing it: what the probe's child does.
///
/// # Errors
/// When the file is no plugin, or refuses.
pub fn open_here(path: &Path) -> Result<Arc<Library>> {
    let transport: Box<dyn Transport> = match Kind::of(path) {
        Some(Kind::Native) => Box::new(native::Native::load(path)?),
        Some(Kind::Wasm) => Box::new(wasm::Wasm::load(path)?),
        Some(Kind::Python) => Box::new(python::Python::load(path)?),
        _ => return Err(Error::refused(path, "is no plugin: .so, .dylib, .dll, .wasm or .py")),
    };
    Library::new(path, transport)
}
