//! A server on this machine that stands in for the Hub, for the tests of this crate and of the command.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use sha2::Digest;

/// The commit that every branch is at.
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has and does: files by their path in whichever repository is asked for.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Cut the body of this many answers short.
    pub(super) break_off: Mutex<usize>,
    /// Announce this checksum instead of the true one.
    pub(super) lie: Option<String>,
    /// Redirect to storage, as large files do.
    pub(super) storage: bool,
    /// What was asked, in order.
    pub(super) asked: Mutex<Vec<String>>,
}

impl Shelf {
    pub(super) fn with(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        Self { files, ..Self::default() }
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("lock").clone()
    }
}

/// Starts the server; it lives as long as the process. Returns its address.
pub(super) fn serve(shelf: Shelf) -> (String, Arc<Shelf>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let shelf = Arc::new(shelf);
    let server = shelf.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shelf = server.clone();
            std::thread::spawn(move || answer(stream, &shelf));
        }
    });
    (address, shelf)
}

fn answer(stream: std::net::TcpStream, shelf: &Shelf) {
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let (mut first, mut range, mut token) = (String::new(), None, None);
    reader.read_line(&mut first).expect("a request");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(from) = line.strip_prefix("range: bytes=") {
            range = from.trim_end_matches('-').parse::<usize>().ok();
        }
        token = token.or(line.strip_prefix("authorization: ").map(str::to_owned));
    }
    let mut words = first.split(' ');
    let (method, url) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let asked = format!("{method} {url} from={range:?} token={token:?}");
    shelf.asked.lock().expect("lock").push(asked);
    let mut out = stream;
    let path = url.split("/resolve/main/").last().unwrap_or("").rsplit("/storage/").next().unwrap_or("");
    let path = path.split(&format!("/resolve/{COMMIT}/")).last().unwrap_or("");
    if url.starts_with("/api/") {
        let siblings: Vec<_> =
            shelf.files.keys().map(|f| serde_json::json!({ "rfilename": f, "size": 3 })).collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        let _ = write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        return;
    }
    let Some(bytes) = shelf.files.get(path) else {
        let _ = write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let sum = shelf.lie.clone().unwrap_or_else(|| hex(&sha2::Sha256::digest(bytes)));
    let about = format!("X-Repo-Commit: {COMMIT}\r\nConnection: close\r\n");
    if shelf.storage && !url.starts_with("/storage/") {
        let _ = write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: /storage/{path}\r\nX-Linked-Etag: \"{sum}\"\r\nX-Linked-Size: {}\r\n\
             Content-Length: 0\r\n{about}\r\n",
            bytes.len()
        );
        return;
    }
    let from = range.unwrap_or(0).min(bytes.len());
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let _ = write!(
        out,
        "HTTP/1.1 {status}\r\nEtag: \"{sum}\"\r\nContent-Length: {}\r\n{about}\r\n",
        bytes.len() - from
    );
    if method == "HEAD" {
        return;
    }
    let mut left = shelf.break_off.lock().expect("lock");
    let end = if *left > 0 { from + (bytes.len() - from) / 2 } else { bytes.len() };
    *left = left.saturating_sub(1);
    let _ = out.write_all(&bytes[from..end]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
