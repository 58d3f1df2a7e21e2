//! Files by repository, revision and path from the Hugging Face Hub, in its standard cache layout.
//!
//! Respects `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`. A download is resumable, checked
//! against the announced length and checksum, and moved into place at once.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use sipf_plugin::Published;

use crate::dataset::hex;
use crate::error::{AtPath, Error, Result};

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
        if self.offline {
            return Err(Error::unusable(format!(
                "{}/{} is not in the cache {} and HF_HUB_OFFLINE is set",
                remote.repository,
                remote.path,
                self.cache.display()
            )));
        }
        self.download(remote)
    }

    /// The file in the cache, if it is there.
    pub fn cached(&self, remote: &Remote<'_>) -> Option<PathBuf> {
        let folder = self.folder(remote);
        let commit = std::fs::read_to_string(folder.join("refs").join(remote.revision));
        let commit = commit.map(|text| text.trim().to_owned()).unwrap_or_else(|_| remote.revision.to_owned());
        let path = folder.join("snapshots").join(commit).join(remote.path);
        path.is_file().then_some(path)
    }

    fn folder(&self, remote: &Remote<'_>) -> PathBuf {
        let kind = if remote.kind == Kind::Model { "models" } else { "datasets" };
        self.cache.join(format!("{kind}--{}", remote.repository.replace('/', "--")))
    }

    fn url(&self, remote: &Remote<'_>) -> String {
        let space = if remote.kind == Kind::Model { "" } else { "datasets/" };
        let endpoint = self.endpoint.trim_end_matches('/');
        format!("{endpoint}/{space}{}/resolve/{}/{}", remote.repository, remote.revision, remote.path)
    }

    fn download(&self, remote: &Remote<'_>) -> Result<PathBuf> {
        let url = self.url(remote);
        let folder = self.folder(remote);
        let blobs = folder.join("blobs");
        std::fs::create_dir_all(&blobs).at(&blobs)?;
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_connect(Some(std::time::Duration::from_secs(10)))
            .timeout_recv_response(Some(std::time::Duration::from_secs(20)))
            .build()
            .into();
        let failed = |error: &dyn std::fmt::Display| Error::unusable(format!("{url}: {error}"));
        let part = blobs.join(format!("{}.incomplete", hex(&Sha256::digest(url.as_bytes()))));
        let mut have = std::fs::metadata(&part).map_or(0, |m| m.len());
        let mut request = agent.get(&url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let mut response = request.call().map_err(|error| failed(&error))?;
        if response.status() != 206 {
            have = 0;
        }
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(|text| text.trim_matches('"').to_owned())
        };
        let commit = header("x-repo-commit").unwrap_or_else(|| remote.revision.to_owned());
        let announced = header("x-linked-etag").or_else(|| header("etag"));
        let length = header("content-length").and_then(|text| text.parse::<u64>().ok());
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(have > 0)
            .truncate(have == 0)
            .open(&part)
            .at(&part)?;
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 20];
        let mut got = 0u64;
        loop {
            let count = body.read(&mut buffer).map_err(|error| failed(&error))?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).at(&part)?;
            got += count as u64;
        }
        if length.is_some_and(|length| length != got) {
            return Err(failed(&format!(
                "broke off after {} bytes; give the command again to go on",
                have + got
            )));
        }
        file.sync_all().at(&part)?;
        let sum = sha256_of(&part)?;
        let wanted = remote.sha256.map(str::to_owned).or_else(|| announced.filter(|etag| is_sha256(etag)));
        if wanted.as_ref().is_some_and(|wanted| *wanted != sum) {
            std::fs::remove_file(&part).at(&part)?;
            return Err(failed(&format!(
                "checksum {sum} is not the announced {}",
                wanted.unwrap_or_default()
            )));
        }
        self.place(remote, &folder, &commit, &part, &sum)
    }

    /// Moves a finished download to its blob and links the snapshot to it.
    fn place(
        &self,
        remote: &Remote<'_>,
        folder: &Path,
        commit: &str,
        part: &Path,
        sum: &str,
    ) -> Result<PathBuf> {
        if !commit.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) || commit.starts_with('.')
        {
            return Err(Error::unusable(format!(
                "{}: the server names an odd commit {commit:?}",
                remote.repository
            )));
        }
        let blob = folder.join("blobs").join(sum);
        std::fs::rename(part, &blob).at(&blob)?;
        let path = folder.join("snapshots").join(commit).join(remote.path);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).at(parent)?;
        let staged = parent.join(format!(".{sum}.{}", std::process::id()));
        #[cfg(unix)]
        std::os::unix::fs::symlink(&blob, &staged).at(&staged)?;
        #[cfg(not(unix))]
        std::fs::copy(&blob, &staged).at(&staged).map(|_| ())?;
        std::fs::rename(&staged, &path).at(&path)?;
        if commit != remote.revision {
            let reference = folder.join("refs").join(remote.revision);
            let parent = reference.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).at(parent)?;
            std::fs::write(&reference, commit).at(&reference)?;
        }
        Ok(path)
    }
}

/// Repositories and paths are used as folders: nothing may lead out of them.
fn check_path(remote: &Remote<'_>) -> Result<()> {
    let parts = [remote.repository, remote.revision, remote.path];
    let odd = |text: &str| {
        text.is_empty()
            || text.starts_with('/')
            || text.contains('\\')
            || text.split('/').any(|part| matches!(part, ".." | "." | ""))
    };
    match parts.into_iter().find(|text| odd(text)) {
        Some(text) => Err(Error::unusable(format!("{text:?} is no repository, revision or path of the Hub"))),
        None => Ok(()),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// SHA-256 of a file, in lower-case hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).at(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).at(path)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
