//! Files by repository, revision and path from the Hugging Face Hub, in its standard cache layout.
//!
//! `blobs/<etag>` holds the bytes, `snapshots/<commit>/<path>` links to them, `refs/<branch>` holds the commit: files
//! fetched by Python's huggingface_hub are found here and the other way round. Respects `HF_HOME`, `HF_HUB_CACHE`,
//! `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`. What is in the cache is taken without asking. Leaves the transfer to
//! `transfer`.

#[cfg(test)]
mod shelf;
#[cfg(test)]
mod tests;
mod transfer;

use std::path::{Path, PathBuf};

use serde_json::Value;
use sipf_plugin::Published;

use crate::error::{AtPath, Error, Result};
pub use transfer::sha256_of;

/// Models and data sets live in separate name spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model repository.
    Model,
    /// A data set repository.
    Dataset,
}

/// One file of the Hub.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// Model or data set.
    pub kind: Kind,
    /// `owner/name`.
    pub repository: &'a str,
    /// Branch, tag or commit.
    pub revision: &'a str,
    /// Path inside the repository.
    pub path: &'a str,
    /// Expected SHA-256 in lower-case hex, where known.
    pub sha256: Option<&'a str>,
}

/// Where the Hub is and where its files are kept.
#[derive(Debug, Clone)]
pub struct Hub {
    cache: PathBuf,
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_on(name: &str) -> bool {
    variable(name)
        .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}

impl Hub {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| ".".into())).join(".cache");
            cache.unwrap_or_else(home).join("huggingface")
        });
        let cache = variable("HF_HUB_CACHE").map(PathBuf::from).unwrap_or_else(|| home.join("hub"));
        let token = variable("HF_TOKEN")
            .or_else(|| std::fs::read_to_string(home.join("token")).ok().map(|text| text.trim().to_owned()));
        Self {
            cache,
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            token: token.filter(|token| !token.is_empty()),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
        }
    }

    /// A hub at this endpoint with this cache folder.
    pub fn new(cache: impl Into<PathBuf>, endpoint: impl Into<String>, offline: bool) -> Self {
        Self { cache: cache.into(), endpoint: endpoint.into(), token: None, offline }
    }

    /// The folder of cached files.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Where files are downloaded from.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether nothing may be downloaded.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Whether requests carry a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// A published file of a data set: from the cache, or downloaded.
    ///
    /// # Errors
    /// When it is neither cached nor to be had.
    pub fn dataset_file(&self, published: &Published) -> Result<PathBuf> {
        self.file(&Remote {
            kind: Kind::Dataset,
            repository: &published.repository,
            revision: if published.revision.is_empty() { "main" } else { &published.revision },
            path: &published.path,
            sha256: published.sha256.as_deref(),
        })
    }

    /// A file: from the cache, or downloaded.
    ///
    /// # Errors
    /// When it is neither cached nor to be had; the message names the file and says why.
    pub fn file(&self, remote: &Remote<'_>) -> Result<PathBuf> {
        check_path(remote)?;
        if let Some(path) = self.cached(remote) {
            return Ok(path);
        }
        self.must_be_online(remote)?;
        let found = transfer::look_up(self, &self.url(remote))?;
        let blob = transfer::fetch(self, remote, &found)?;
        self.link(remote, &found.commit.unwrap_or_else(|| remote.revision.to_owned()), &blob)
    }

    /// The file in the cache, if it is there.
    pub fn cached(&self, remote: &Remote<'_>) -> Option<PathBuf> {
        let path = self.snapshot_folder(remote)?.join(remote.path);
        path.is_file().then_some(path)
    }

    /// A model's folder: configuration, tokenizer and safetensors weights, downloaded where they are missing.
    ///
    /// # Errors
    /// When files are neither cached nor to be had, or the repository has no safetensors weights.
    pub fn model(&self, repository: &str, revision: &str) -> Result<PathBuf> {
        let remote = |path| Remote { kind: Kind::Model, repository, revision, path, sha256: None };
        check_path(&remote("config.json"))?;
        let there = self.snapshot_folder(&remote("config.json"));
        if let Some(folder) = there.filter(|folder| is_whole_model(folder)) {
            return Ok(folder);
        }
        self.must_be_online(&remote("config.json"))?;
        let listing = self.listing(Kind::Model, repository, revision)?;
        let pinned =
            |path| Remote { kind: Kind::Model, repository, revision: &listing.commit, path, sha256: None };
        let has = |name: &str| listing.files.iter().any(|(file, _)| file == name);
        let mut wanted: Vec<String> = listing.files.iter().map(|(file, _)| file.clone()).collect();
        wanted.retain(|file| !file.contains('/') && (file.ends_with(".json") || file.ends_with(".jinja")));
        match has(INDEX) {
            true => wanted.extend(shards(&self.file(&pinned(INDEX))?)?),
            false => wanted.extend(WEIGHTS.into_iter().filter(|file| has(file)).map(str::to_owned)),
        }
        if !wanted.iter().any(|file| file.ends_with(".safetensors")) {
            return Err(Error::unusable(format!(
                "{repository}: no {INDEX} and none of {}",
                WEIGHTS.join(", ")
            )));
        }
        for file in &wanted {
            self.file(&pinned(file))?;
        }
        let folder = self.folder(Kind::Model, repository);
        self.remember(&folder, revision, &listing.commit)?;
        Ok(folder.join("snapshots").join(&listing.commit))
    }

    /// A model's folder in the cache, whole; `None` where something would have to be downloaded.
    pub fn cached_model(&self, repository: &str, revision: &str) -> Option<PathBuf> {
        let remote = Remote { kind: Kind::Model, repository, revision, path: "config.json", sha256: None };
        check_path(&remote).ok()?;
        self.snapshot_folder(&remote).filter(|folder| is_whole_model(folder))
    }

    /// What a repository holds at a revision.
    ///
    /// # Errors
    /// When the Hub cannot be asked.
    pub fn listing(&self, kind: Kind, repository: &str, revision: &str) -> Result<Listing> {
        if self.offline {
            return Err(Error::unusable(format!(
                "{repository} is not in the cache and HF_HUB_OFFLINE is set"
            )));
        }
        let space = if kind == Kind::Model { "models" } else { "datasets" };
        let endpoint = self.endpoint.trim_end_matches('/');
        let url = format!("{endpoint}/api/{space}/{repository}/revision/{revision}?blobs=true");
        let answer: Value = serde_json::from_str(&transfer::text(self, &url)?)?;
        let commit = answer.get("sha").and_then(Value::as_str).unwrap_or(revision).to_owned();
        check_commit(repository, &commit)?;
        let files = answer.get("siblings").and_then(Value::as_array).into_iter().flatten();
        let files = files.filter_map(|file| {
            Some((file.get("rfilename")?.as_str()?.to_owned(), file.get("size").and_then(Value::as_u64)))
        });
        Ok(Listing { commit, files: files.collect() })
    }

    fn must_be_online(&self, remote: &Remote<'_>) -> Result<()> {
        if !self.offline {
            return Ok(());
        }
        let folder = self.folder(remote.kind, remote.repository);
        Err(Error::unusable(format!(
            "{}/{} is not in the cache and HF_HUB_OFFLINE is set; it belongs in {}",
            remote.repository,
            remote.path,
            folder.join("snapshots").join(remote.revision).join(remote.path).display()
        )))
    }

    fn folder(&self, kind: Kind, repository: &str) -> PathBuf {
        let space = if kind == Kind::Model { "models" } else { "datasets" };
        self.cache.join(format!("{space}--{}", repository.replace('/', "--")))
    }

    /// The folder of the commit that the revision names here, if it is known.
    fn snapshot_folder(&self, remote: &Remote<'_>) -> Option<PathBuf> {
        let folder = self.folder(remote.kind, remote.repository);
        let commit = std::fs::read_to_string(folder.join("refs").join(remote.revision));
        let commit = commit.map(|text| text.trim().to_owned()).unwrap_or_else(|_| remote.revision.to_owned());
        Some(folder.join("snapshots").join(commit)).filter(|folder| folder.is_dir())
    }

    fn url(&self, remote: &Remote<'_>) -> String {
        let space = if remote.kind == Kind::Model { "" } else { "datasets/" };
        let endpoint = self.endpoint.trim_end_matches('/');
        format!("{endpoint}/{space}{}/resolve/{}/{}", remote.repository, remote.revision, remote.path)
    }

    /// Links `snapshots/<commit>/<path>` to a blob, by a relative link as huggingface_hub does.
    fn link(&self, remote: &Remote<'_>, commit: &str, blob: &Path) -> Result<PathBuf> {
        check_commit(remote.repository, commit)?;
        let folder = self.folder(remote.kind, remote.repository);
        let path = folder.join("snapshots").join(commit).join(remote.path);
        let parent = path.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent).at(parent)?;
        let name = blob.file_name().unwrap_or_default();
        // Threads and processes may link the same file at once: each in a folder of its own, then moved into place.
        let own = tempfile::Builder::new().prefix(".link-").tempdir_in(parent).at(parent)?;
        let staged = own.path().join("blob");
        #[cfg(unix)]
        {
            let up = "../".repeat(2 + remote.path.matches('/').count());
            std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(name), &staged).at(&staged)?;
        }
        #[cfg(not(unix))]
        std::fs::copy(blob, &staged).at(&staged).map(|_| ())?;
        std::fs::rename(&staged, &path).at(&path)?;
        self.remember(&folder, remote.revision, commit)?;
        Ok(path)
    }

    /// Writes down which commit a branch or tag was.
    fn remember(&self, folder: &Path, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = folder.join("refs").join(revision);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).at(parent)?;
        let mut staged = tempfile::NamedTempFile::new_in(parent).at(parent)?;
        std::io::Write::write_all(&mut staged, commit.as_bytes()).at(&path)?;
        staged.persist(&path).map(drop).map_err(|error| error.error).at(&path)
    }
}

/// What a repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The commit.
    pub commit: String,
    /// Path and, where the Hub says it, size in bytes.
    pub files: Vec<(String, Option<u64>)>,
}

const INDEX: &str = "model.safetensors.index.json";
const WEIGHTS: [&str; 2] = ["model.safetensors", "adapter_model.safetensors"];

/// The weight files that an index names.
fn shards(index: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(index).at(index)?;
    let value: Value = serde_json::from_str(&text).map_err(|error| Error::file(index, error.to_string()))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::file(index, "has no weight_map"))?;
    let names: std::collections::BTreeSet<String> =
        map.values().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(names.into_iter().collect())
}

fn is_whole_model(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    let weights = match shards(&folder.join(INDEX)) {
        Ok(shards) => shards.iter().all(|shard| has(shard)),
        Err(_) => WEIGHTS.into_iter().any(has),
    };
    weights && (has("config.json") || has("adapter_config.json"))
}

/// Repositories and paths are used as folders: nothing may lead out of them.
fn check_path(remote: &Remote<'_>) -> Result<()> {
    let parts = [remote.repository, remote.revision, remote.path];
    let odd = |text: &str| {
        text.is_empty()
            || text.starts_with('/')
            || text.contains(['\\', '?', '#'])
            || text.split('/').any(|part| matches!(part, ".." | "." | ""))
    };
    match parts.into_iter().find(|text| odd(text)) {
        Some(text) => Err(Error::unusable(format!("{text:?} is no repository, revision or path of the Hub"))),
        None => Ok(()),
    }
}

fn check_commit(repository: &str, commit: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !commit.is_empty() && commit.chars().all(plain) && !commit.starts_with('.') {
        true => Ok(()),
        false => Err(Error::unusable(format!("{repository}: the server names an odd commit {commit:?}"))),
    }
}
