//! The models of a run: the policy's base, checkpoints over it, the simulator, and engines over them.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use crate::Result;
use crate::generate::{Engine, EngineOptions};
use crate::model::{Checkpoint, Decoder, LoadOptions, ModelFolder, Tokenizer, Trainable};
use crate::progress::Progress;
use crate::run_dir::{hash_folder, hash_rows};

/// Where models run.
#[derive(Debug, Clone)]
pub struct Place {
    /// The device.
    pub device: Device,
    /// Weights' type there.
    pub dtype: DType,
    /// The most sequences that run at once.
    pub batch: usize,
    /// Memory for keys and values.
    pub cache_bytes: usize,
}

impl Place {
    fn options(&self, trainable: Trainable, seed: u64) -> LoadOptions {
        LoadOptions { device: self.device.clone(), dtype: self.dtype, trainable, seed }
    }

    /// An engine over a model, with the end-of-sequence ids and tokenizer of `folder`.
    pub(super) fn engine(&self, decoder: &Decoder, folder: &Path) -> Result<Engine> {
        let tokenizer = Tokenizer::load(folder)?;
        let options = EngineOptions {
            batch: self.batch,
            cache_bytes: self.cache_bytes,
            ..EngineOptions::of(folder, &tokenizer)?
        };
        Engine::new(decoder, tokenizer, options)
    }

    /// A model folder for sampling.
    pub(super) fn load(&self, folder: &Path) -> Result<Decoder> {
        Decoder::load(folder, &self.options(Trainable::Frozen, 0))
    }
}

/// A model that a run starts from.
pub(super) struct Base {
    pub(super) folder: ModelFolder,
    pub(super) hash: String,
    /// The adapter that it has before this run, and the hash of both together.
    adapter: Option<(PathBuf, String)>,
}

impl Base {
    pub(super) fn open(name: &str, seed: u64) -> Result<Self> {
        let folder = ModelFolder::open(name, seed)?;
        let hash = hash_folder(folder.path())?;
        if let Some(text) = Checkpoint::open_headless(folder.path())?.unread() {
            Progress::new("model", None, "tensors").note(&text);
        }
        Ok(Self { folder, hash, adapter: None })
    }

    /// With the adapter of this folder on it; an empty name is none.
    pub(super) fn adapted(self, adapter: &str) -> Result<Self> {
        if adapter.is_empty() {
            return Ok(self);
        }
        let hash = hash_rows(&[&self.hash, &hash_folder(Path::new(adapter))?])?;
        Ok(Self { adapter: Some((adapter.into(), hash)), ..self })
    }

    /// The policy that it is, untrained by this run.
    pub(super) fn policy(&self) -> Policy {
        match &self.adapter {
            Some((folder, hash)) => Policy { folder: Some(folder.clone()), hash: hash.clone() },
            None => Policy { folder: None, hash: self.hash.clone() },
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A state of the policy: its base, or what training left in a folder.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// A whole model or an adapter; `None`: the base itself.
    pub(super) folder: Option<PathBuf>,
    /// Hash of its contents.
    pub(super) hash: String,
}

impl Policy {
    /// The policy for sampling.
    pub(super) fn decoder(&self, base: &Path, place: &Place) -> Result<Decoder> {
        self.open(base, &place.options(Trainable::Frozen, 0))
    }

    /// The policy for training: on from its adapter where it is one, else with what `trainable` says.
    pub(super) fn trainable(
        &self,
        base: &Path,
        place: &Place,
        trainable: Trainable,
        seed: u64,
    ) -> Result<Decoder> {
        self.open(base, &place.options(trainable, seed))
    }

    fn open(&self, base: &Path, options: &LoadOptions) -> Result<Decoder> {
        match &self.folder {
            None => Decoder::load(base, options),
            Some(folder) if folder.join("adapter_config.json").is_file() => {
                let frozen = LoadOptions { trainable: Trainable::Frozen, ..options.clone() };
                Decoder::load(base, &frozen)?.with_adapter(folder)
            }
            Some(folder) => Decoder::load(folder, options),
        }
    }

    /// Whether it is an adapter over the base.
    pub(super) fn is_adapter(&self) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.join("adapter_config.json").is_file())
    }
}
