//! `metrics.jsonl`, one object a step, and the same numbers for TensorBoard.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::tensorboard::EventFile;
use crate::{AtPath, Result};

/// Name of the file below the output folder.
const FILE: &str = "metrics.jsonl";

/// The metrics of a training that goes on.
pub(super) struct Log {
    file: File,
    path: PathBuf,
    events: EventFile,
    /// Bytes that belong to finished steps.
    pub(super) bytes: u64,
}

impl Log {
    /// Goes on behind the first `bytes`; what a killed process wrote after its last checkpoint is dropped.
    pub(super) fn open(folder: &Path, bytes: u64, step: usize) -> Result<Self> {
        let path = folder.join(FILE);
        let mut file = File::options().create(true).truncate(false).write(true).open(&path).at(&path)?;
        file.set_len(bytes).at(&path)?;
        file.seek(SeekFrom::End(0)).at(&path)?;
        Ok(Self { file, path, events: EventFile::create(folder, step)?, bytes })
    }

    /// One line.
    pub(super) fn write(&mut self, step: usize, line: &Map<String, Value>) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).at(&self.path)?;
        self.bytes += text.len() as u64;
        self.events.write(step, line)
    }

    /// Everything on disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().at(&self.path)
    }

    /// Mean and last of the logged training losses.
    pub(super) fn losses(&self) -> Result<(f64, f64)> {
        let text = std::fs::read_to_string(&self.path).at(&self.path)?;
        let losses: Vec<f64> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("loss")?.as_f64())
            .collect();
        let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        Ok((mean, losses.last().copied().unwrap_or(0.0)))
    }
}
