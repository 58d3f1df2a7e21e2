//! A model by name: a folder, a bundled model, or a repository on the Hub.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::tiny::Tiny;
use crate::hub::Hub;
use crate::{AtPath, Error, Result};

/// A model folder on this machine, for as long as it is needed.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    /// Bundled models and GGUF files are written to a folder that goes with this value.
    _written: Option<TempDir>,
}

impl ModelFolder {
    /// Finds a folder, a GGUF file, a bundled name (`tiny`, `tiny-strong`), or a Hub id (`owner/name`, `owner/name@revision`). `seed`
    /// draws the weights of an untrained bundled model.
    ///
    /// # Errors
    /// Says what the name could have been, or what the Hub said.
    pub fn open(name: &str, seed: u64) -> Result<Self> {
        Self::check(name)?;
        let path = Path::new(name);
        if path.is_dir() {
            return Ok(Self { path: path.to_path_buf(), _written: None });
        }
        let scratch = || tempfile::Builder::new().prefix("sipf-").tempdir().at(std::env::temp_dir());
        if is_gguf(path) {
            let written = scratch()?;
            super::gguf::convert(path, written.path())?;
            return Ok(Self { path: written.path().to_path_buf(), _written: Some(written) });
        }
        if let Some(member) = Tiny::named(name) {
            let written = scratch()?;
            member.write(written.path(), seed)?;
            return Ok(Self { path: written.path().to_path_buf(), _written: Some(written) });
        }
        let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
        Ok(Self { path: Hub::from_environment().model(repository, revision)?, _written: None })
    }

    /// Whether a name can be one of a model at all; nothing is opened or fetched for it.
    ///
    /// # Errors
    /// Says what the name could have been.
    pub fn check(name: &str) -> Result<()> {
        let path = Path::new(name);
        if path.is_dir() || is_gguf(path) || Tiny::named(name).is_some() {
            return Ok(());
        }
        let repository = name.split_once('@').map_or(name, |(repository, _)| repository);
        let parts: Vec<&str> = repository.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if parts.len() != 2 || !parts.iter().all(plain) {
            return Err(Error::unusable(format!(
                "{name}: no such model folder, and neither a Hub id (owner/name) nor tiny or tiny-strong"
            )));
        }
        Ok(())
    }

    /// Whether a model of this name is on this machine: a folder, a file, bundled, or in the Hub's cache.
    pub fn is_here(name: &str) -> bool {
        let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
        let path = Path::new(name);
        path.is_dir()
            || is_gguf(path)
            || Tiny::named(name).is_some()
            || Hub::from_environment().cached_model(repository, revision).is_some()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn is_gguf(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}
