//! The flags that name a model and the machine it runs on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sipf_core::machine;
use sipf_core::model::{Checkpoint, Decoder, LoadOptions, ModelFolder, Tokenizer};

use crate::exit::{eprint_line, tell_device, tell_more};
use crate::given::at_least_one;

/// Loads a model folder, and tells what of it is not read.
pub(crate) fn load(folder: &Path, options: &LoadOptions) -> anyhow::Result<Decoder> {
    let checkpoint = Checkpoint::open(folder)?;
    tell_unread(&checkpoint);
    Ok(Decoder::of_checkpoint(&checkpoint, options)?)
}

/// Tells which weights of a model folder are not read.
pub(crate) fn tell_unread(checkpoint: &Checkpoint) {
    if let Some(text) = checkpoint.unread() {
        eprint_line(&text);
    }
}

/// A model folder, an adapter on it, and where it runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Source {
    /// Model folder (config.json, tokenizer.json, model.safetensors), Hub id (owner/name@revision), tiny or tiny-strong
    #[arg(long, value_name = "M")]
    model: String,
    #[arg(skip)]
    opened: OnceLock<Arc<ModelFolder>>,
    /// PEFT adapter to put on it
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// auto, cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Threads; the results do not depend on it
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    threads: Option<usize>,
}

impl Source {
    /// A model that other flags name.
    pub(crate) fn of(model: &str, adapter: Option<&Path>, device: &str, threads: Option<usize>) -> Self {
        Self {
            model: model.to_owned(),
            opened: OnceLock::new(),
            adapter: adapter.map(Path::to_path_buf),
            device: device.to_owned(),
            threads,
        }
    }

    /// The folder of the model: looked up, unpacked or downloaded by the first call.
    pub(crate) fn folder(&self) -> anyhow::Result<&Path> {
        let opened = match self.opened.get() {
            Some(opened) => opened,
            None => {
                let found = Arc::new(ModelFolder::open(&self.model, LoadOptions::default().seed)?);
                self.opened.get_or_init(|| found)
            }
        };
        Ok(opened.path())
    }

    /// The folder of the adapter.
    pub(crate) fn adapter(&self) -> Option<&Path> {
        self.adapter.as_deref()
    }

    /// The model, as the flag says.
    pub(crate) fn given(&self) -> &str {
        &self.model
    }

    /// Where it runs, as the flag says.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// What to call it in a report: the folder's own name.
    pub(crate) fn name(&self) -> String {
        let name = Path::new(&self.model).file_name().map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| self.model.clone())
    }

    /// Threads in use, set on the first call.
    pub(crate) fn threads(&self) -> anyhow::Result<usize> {
        Ok(machine::use_threads(self.threads)?)
    }

    /// The decoder on its device, adapter applied.
    pub(crate) fn decoder(&self) -> anyhow::Result<Decoder> {
        self.threads()?;
        let folder = self.folder()?;
        let (device, why) = machine::device(&self.device)?;
        tell_more(&format!("model: {}, read from {}", self.model, folder.display()));
        tell_device(device.is_cpu(), &why);
        // The type that weights have on a GPU, where memory and its bandwidth decide.
        let dtype = if device.is_cpu() { LoadOptions::default().dtype } else { machine::half_precision() };
        let options = LoadOptions { device, dtype, ..LoadOptions::default() };
        let decoder = load(folder, &options)?;
        match &self.adapter {
            Some(adapter) => Ok(decoder.with_adapter(adapter)?),
            None => Ok(decoder),
        }
    }

    /// The tokenizer of the folder.
    pub(crate) fn tokenizer(&self) -> anyhow::Result<Tokenizer> {
        Ok(Tokenizer::load(self.folder()?)?)
    }
}
