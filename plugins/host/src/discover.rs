//! Where plugins lie. A sidecar beside each lets lists and names work without loading anything.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sipf_plugin::{Api, Manifest};

use crate::error::{Error, Result};
use crate::transport::Kind;

/// Name of the sidecar.
pub const SIDECAR: &str = "plugin.toml";

/// What `sipf plugin install` writes beside a plugin's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// Message schema it was built against.
    pub api: Api,
    /// How it is loaded.
    pub kind: Kind,
    /// File name, in the same folder.
    pub file: String,
    /// SHA-256 of the file, in lower-case hex.
    pub sha256: String,
    /// Tasks it exports.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Reward models it exports.
    #[serde(default)]
    pub rewards: Vec<String>,
}

/// A plugin found in a folder: its sidecar, or why it is broken.
#[derive(Debug, Clone)]
pub struct Found {
    /// The plugin's folder.
    pub folder: PathBuf,
    /// Its sidecar.
    pub sidecar: std::result::Result<Sidecar, String>,
}

impl Found {
    /// The plugin's file, its hash checked.
    ///
    /// # Errors
    /// When the sidecar is broken, the file is missing or is not the one that was installed.
    pub fn file(&self) -> Result<PathBuf> {
        let sidecar = self.sidecar.as_ref().map_err(|why| Error::refused(&self.folder, why.clone()))?;
        let path = self.folder.join(&sidecar.file);
        let sum = sha256_of(&path)?;
        match sum == sidecar.sha256 {
            true => Ok(path),
            false => Err(Error::refused(
                &path,
                format!(
                    "has changed since it was installed (sha256 {sum}, installed {}): install it again",
                    sidecar.sha256
                ),
            )),
        }
    }

    /// Whether it exports this name.
    pub fn exports(&self, name: &str) -> bool {
        self.sidecar.as_ref().is_ok_and(|s| s.tasks.iter().chain(&s.rewards).any(|export| export == name))
    }
}

/// The folders that are searched, in order: `--plugin-dir`, `SIPF_PLUGIN_PATH`, `./plugins`, the data home.
pub fn folders(flag: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = flag.to_vec();
    if let Some(list) = std::env::var_os("SIPF_PLUGIN_PATH") {
        folders.extend(std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()));
    }
    folders.push(PathBuf::from("plugins"));
    folders.extend(data_home());
    let mut seen = std::collections::BTreeSet::new();
    folders.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    folders
}

/// Where plugins are installed: `$XDG_DATA_HOME/sipf/plugins`, else `~/.local/share/sipf/plugins`.
pub fn data_home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")))?;
    Some(base.join("sipf").join("plugins"))
}

/// Every plugin of a folder, by name; a folder that does not exist holds none. Runs nothing.
pub fn plugins_in(folder: &Path) -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<Found> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join(SIDECAR).is_file())
        .map(|folder| {
            let sidecar = read_sidecar(&folder.join(SIDECAR));
            Found { folder, sidecar }
        })
        .collect();
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    found
}

fn read_sidecar(path: &Path) -> std::result::Result<Sidecar, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{SIDECAR}: {error}"))?;
    let sidecar: Sidecar =
        toml::from_str(&text).map_err(|error| format!("{SIDECAR}: {}", error.message()))?;
    let plain = Path::new(&sidecar.file).file_name().is_some_and(|name| name == sidecar.file.as_str());
    if plain {
        Ok(sidecar)
    } else {
        Err(format!("{SIDECAR}: file {:?} leads out of the folder", sidecar.file))
    }
}

/// Copies a plugin's file into `into/NAME/` and writes its sidecar. An older version there is replaced.
///
/// # Errors
/// When something cannot be written.
pub fn install(path: &Path, kind: Kind, manifest: &Manifest, into: &Path) -> Result<PathBuf> {
    let folder = into.join(&manifest.name);
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sidecar = Sidecar {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        api: manifest.api,
        kind,
        sha256: sha256_of(path)?,
        tasks: manifest.tasks.iter().map(|card| card.name.clone()).collect(),
        rewards: manifest.rewards.iter().map(|card| card.name.clone()).collect(),
        file,
    };
    // Written beside and moved into place: a library in use is replaced, never overwritten.
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    let text = toml::to_string(&sidecar).map_err(|error| Error::refused(path, error.to_string()))?;
    put(&folder, &sidecar.file, &bytes)?;
    put(&folder, SIDECAR, text.as_bytes())?;
    Ok(folder)
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    let mut staged = tempfile::NamedTempFile::new_in(folder).map_err(|error| Error::io(folder, error))?;
    std::io::Write::write_all(&mut staged, bytes).map_err(|error| Error::io(&path, error))?;
    staged.persist(&path).map_err(|error| Error::io(&path, error.error))?;
    Ok(())
}

/// SHA-256 of a file, in lower-case hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
