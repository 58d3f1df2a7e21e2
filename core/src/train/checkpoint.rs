//! What a resume needs: one file, written whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::TrainSettings;
use super::best::Best;
use crate::{AtPath, Error, Result};

/// Name of the file below the output folder.
pub(super) const FILE: &str = "checkpoint.safetensors";

/// What is kept beside weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Finished optimizer steps.
    pub(super) step: usize,
    /// Updates made; fewer than steps where a step had nothing to learn from.
    pub(super) updates: usize,
    /// Bytes of `metrics.jsonl` that belong to those steps.
    pub(super) metrics_bytes: u64,
    /// The best evaluation so far.
    pub(super) best: Best,
    /// Whether evaluations stopped getting better.
    pub(super) stopped_early: bool,
    /// How the training was set up.
    pub(super) settings: TrainSettings,
    /// Rows of the objective.
    pub(super) rows: usize,
    /// Of loss, rows and the weights at the start.
    pub(super) fingerprint: String,
}

/// Writes the checkpoint beside its place and moves it there: what stood there stays whole until the new one is.
pub(super) fn save(folder: &Path, state: &State, tensors: BTreeMap<String, Tensor>) -> Result<()> {
    let path = folder.join(FILE);
    let fresh = folder.join(format!("{FILE}.new"));
    let metadata = HashMap::from([("state".to_owned(), serde_json::to_string(state)?)]);
    let written = safetensors::serialize_to_file(&tensors, Some(metadata), &fresh)
        .map_err(|error| Error::file(&fresh, format!("cannot write the checkpoint: {error}")))
        .and_then(|()| std::fs::File::open(&fresh).and_then(|file| file.sync_all()).at(&fresh));
    if let Err(error) = written {
        // Half a file would only fill the disk further.
        let _ = std::fs::remove_file(&fresh);
        return Err(error);
    }
    std::fs::rename(&fresh, &path).at(&path)
}

/// Removes it: the training is finished.
pub(super) fn forget(folder: &Path) -> Result<()> {
    for path in [folder.join(FILE), folder.join(format!("{FILE}.new"))] {
        if path.is_file() {
            std::fs::remove_file(&path).at(&path)?;
        }
    }
    Ok(())
}

/// Reads the checkpoint, if there is one.
pub(super) fn load(folder: &Path) -> Result<Option<(State, BTreeMap<String, Tensor>)>> {
    let path = folder.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let broken = |why: String| Error::file(&path, format!("{why}; remove the file to train from the start"));
    let bytes = std::fs::read(&path).at(&path)?;
    let (_, header) =
        safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| broken(error.to_string()))?;
    let state = header.metadata().as_ref().and_then(|metadata| metadata.get("state"));
    let state: State = serde_json::from_str(state.ok_or_else(|| broken("holds no training state".into()))?)
        .map_err(|error| broken(error.to_string()))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    Ok(Some((state, tensors.into_iter().collect())))
}
