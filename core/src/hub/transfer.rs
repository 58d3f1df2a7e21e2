//! The transfer of one file: ask what it is, go on where an earlier try broke off, check it, put it in place at once.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::Response;

use super::{Hub, Remote};
use crate::dataset::hex;
use crate::error::{AtPath, Error, Result};

/// How often a transfer that breaks off is taken up again within one call.
const TRIES: usize = 3;

/// What the server says about a file before it sends it.
#[derive(Debug, Default)]
pub(super) struct Found {
    url: String,
    pub(super) commit: Option<String>,
    /// SHA-256 of the bytes (large files) or SHA-1 of the git blob (small ones).
    etag: String,
    size: Option<u64>,
}

fn agent(redirects: u32) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_resolve(Some(Duration::from_secs(10)))
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(false)
        .build()
        .into()
}

fn authorized<B>(hub: &Hub, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
    let request = request.header("Accept-Encoding", "identity");
    match &hub.token {
        Some(token) => request.header("Authorization", format!("Bearer {token}")),
        None => request,
    }
}

fn failed(url: &str, error: impl std::fmt::Display) -> Error {
    Error::unusable(format!("{url}: {error}"))
}

fn header<T>(response: &Response<T>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// What a status other than success means for the reader.
fn refused(hub: &Hub, url: &str, status: u16) -> Error {
    let why = match (status, &hub.token) {
        (401 | 403, None) => {
            "the repository is private, gated or not there: accept its terms on the Hub and set HF_TOKEN"
        }
        (401 | 403, Some(_)) => {
            "the token (HF_TOKEN) may not read it: accept the repository's terms on the Hub"
        }
        (404, _) => "no such repository, revision or file",
        (429, _) => "too many requests; try again later",
        _ => "the server refused",
    };
    failed(url, format!("{why} (status {status})"))
}

/// Text at an address, for the Hub's API.
pub(super) fn text(hub: &Hub, url: &str) -> Result<String> {
    let mut response = authorized(hub, agent(5).get(url)).call().map_err(|error| failed(url, error))?;
    match response.status().as_u16() {
        200 => response.body_mut().read_to_string().map_err(|error| failed(url, error)),
        status => Err(refused(hub, url, status)),
    }
}

/// Asks for a file's commit, checksum and size. They stand on the Hub's own answer, not on the storage it redirects to.
pub(super) fn look_up(hub: &Hub, url: &str) -> Result<Found> {
    let mut url = url.to_owned();
    for _ in 0..5 {
        let response = authorized(hub, agent(0).head(&url)).call().map_err(|error| failed(&url, error))?;
        let status = response.status().as_u16();
        let location = header(&response, "location").filter(|_| (300..400).contains(&status));
        let linked = header(&response, "x-linked-etag");
        // A renamed repository redirects within the Hub; storage elsewhere is announced by x-linked-etag.
        if let Some(path) = location.as_ref().filter(|to| linked.is_none() && to.starts_with('/')) {
            url = format!("{}{path}", hub.endpoint.trim_end_matches('/'));
            continue;
        }
        if !(200..400).contains(&status) {
            return Err(refused(hub, &url, status));
        }
        let etag = linked.or_else(|| header(&response, "etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        let own_size = header(&response, "content-length").filter(|_| location.is_none());
        let size = header(&response, "x-linked-size").or(own_size);
        let (commit, size) = (header(&response, "x-repo-commit"), size.and_then(|text| text.parse().ok()));
        return Ok(Found { url, commit, etag, size });
    }
    Err(failed(&url, "redirects in circles"))
}

/// The blob with the file's bytes: there already, or downloaded now. Others who want the same one wait for it.
pub(super) fn fetch(hub: &Hub, remote: &Remote<'_>, found: &Found) -> Result<PathBuf> {
    let folder = hub.folder(remote.kind, remote.repository);
    let plain = !found.etag.is_empty() && found.etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let name = match plain {
        true => found.etag.clone(),
        false => hex(&Sha256::digest(found.url.as_bytes())),
    };
    let blobs = folder.join("blobs");
    let locks = hub.cache.join(".locks").join(folder.file_name().unwrap_or_default());
    for folder in [&blobs, &locks] {
        std::fs::create_dir_all(folder).at(folder)?;
    }
    let lock = locks.join(format!("{name}.lock"));
    let held = OpenOptions::new().create(true).truncate(false).write(true).open(&lock).at(&lock)?;
    held.lock().at(&lock)?;
    let blob = blobs.join(&name);
    if blob.is_file() {
        return Ok(blob);
    }
    let part = blobs.join(format!("{name}.incomplete"));
    let mut tries = 1;
    while let Err(error) = receive(hub, found, &part) {
        tries += 1;
        if tries > TRIES || !error.again {
            return Err(error.error);
        }
    }
    check(remote, found, &part)?;
    std::fs::rename(&part, &blob).at(&blob)?;
    Ok(blob)
}

/// A failed try, and whether another may help.
struct Broken {
    error: Error,
    again: bool,
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self { error, again: false }
    }
}

fn receive(hub: &Hub, found: &Found, part: &Path) -> std::result::Result<(), Broken> {
    let url = &found.url;
    let mut have = std::fs::metadata(part).map_or(0, |m| m.len());
    if found.size.is_some_and(|size| have > size) {
        have = 0;
    }
    if have > 0 && found.size == Some(have) {
        return Ok(());
    }
    let mut request = authorized(hub, agent(10).get(url));
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let mut response = request.call().map_err(|error| failed(url, error))?;
    match response.status().as_u16() {
        206 => {}
        200 => have = 0,
        status => {
            let again = status == 416 || status >= 500;
            if status == 416 {
                std::fs::remove_file(part).at(part)?;
            }
            return Err(Broken { error: refused(hub, url, status), again });
        }
    }
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(have > 0)
        .truncate(have == 0)
        .open(part)
        .at(part)?;
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 20];
    let mut ended = None;
    loop {
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                file.write_all(&buffer[..count]).at(part)?;
                have += count as u64;
            }
            Err(error) => {
                ended = Some(error.to_string());
                break;
            }
        }
    }
    file.sync_all().at(part)?;
    let short = found.size.is_some_and(|size| have != size);
    match ended.or_else(|| short.then(|| "fewer bytes than announced".to_owned())) {
        Some(why) => {
            let why = format!("broke off after {have} bytes ({why}); give the command again to go on");
            Err(Broken { error: failed(url, why), again: true })
        }
        None => Ok(()),
    }
}

/// Compares with every checksum that is known; a file that differs is thrown away.
fn check(remote: &Remote<'_>, found: &Found, part: &Path) -> Result<()> {
    let is_hex =
        |length: usize| found.etag.len() == length && found.etag.bytes().all(|b| b.is_ascii_hexdigit());
    let announced = Some(found.etag.as_str()).filter(|_| is_hex(64));
    let mut wrong = None;
    for wanted in [remote.sha256, announced].into_iter().flatten() {
        let sum = sha256_of(part)?;
        if !sum.eq_ignore_ascii_case(wanted) {
            wrong = Some(format!("SHA-256 is {sum}, should be {wanted}"));
        }
    }
    if is_hex(40) {
        let sum = git_blob(part)?;
        if sum != found.etag {
            wrong = Some(format!("git checksum is {sum}, should be {}", found.etag));
        }
    }
    match wrong {
        Some(why) => {
            std::fs::remove_file(part).at(part)?;
            Err(failed(&found.url, why))
        }
        None => Ok(()),
    }
}

/// SHA-256 of a file, in lower-case hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    digest(path, Sha256::new())
}

fn git_blob(path: &Path) -> Result<String> {
    let length = std::fs::metadata(path).at(path)?.len();
    digest(path, Sha1::new().chain_update(format!("blob {length}\0")))
}

fn digest<D: Digest>(path: &Path, mut hash: D) -> Result<String> {
    let mut file = File::open(path).at(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).at(path)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
