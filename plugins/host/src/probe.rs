//! First contact with a native library in a child process: a crashing initialiser, an abort or a hang becomes a
//! message instead of a dead run.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sipf_plugin::Manifest;

use crate::error::{Error, Result};

/// The hidden command that a child process is started with.
pub const COMMAND: &str = "__probe";

/// How long a library may take to introduce itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts child processes that load a library and print its manifest.
#[derive(Debug, Clone)]
pub struct Prober {
    program: PathBuf,
    patience: Duration,
}

impl Prober {
    /// Children are this very program.
    ///
    /// # Errors
    /// When the system does not say where it is.
    pub fn this_program() -> Result<Self> {
        let program = std::env::current_exe().map_err(|error| Error::io("the running program", error))?;
        Ok(Self::new(program))
    }

    /// Children are this program, which must know the command [`COMMAND`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), patience: PATIENCE }
    }

    /// Waits so long for an introduction.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The manifest of a library, as a child process saw it.
    ///
    /// # Errors
    /// Says how the child ended when it did not answer.
    pub fn probe(&self, path: &Path) -> Result<Manifest> {
        let refused = |message: String| Error::refused(path, message);
        let mut child = Command::new(&self.program)
            .arg(COMMAND)
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::io(&self.program, error))?;
        // Read while the child runs, or a long manifest would fill the pipe and stop it.
        let out = reader(child.stdout.take());
        let err = reader(child.stderr.take());
        let start = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| Error::io(&self.program, error))? {
                Some(status) => break status,
                None if start.elapsed() > self.patience => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(refused(format!(
                        "did not introduce itself within {} s",
                        self.patience.as_secs()
                    )));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let text = |handle: std::thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&handle.join().unwrap_or_default()).trim().to_owned()
        };
        let (out, err) = (text(out), text(err));
        if !status.success() {
            let last = err.lines().last().unwrap_or_default();
            let known =
                last.split_once(&format!("{}: ", path.display())).map(|(_, message)| message.to_owned());
            return Err(refused(match (status.code(), known) {
                (Some(_), Some(message)) => message,
                (Some(code), None) => format!("ended the process that loaded it with status {code}: {last}"),
                (None, _) => format!("crashed the process that loaded it ({status}): {last}"),
            }));
        }
        // Whatever else a library prints while it is loaded, the manifest is the last line.
        let manifest = out.lines().last().unwrap_or_default();
        serde_json::from_str(manifest).map_err(|error| refused(format!("printed no manifest: {error}")))
    }
}

fn reader(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}
