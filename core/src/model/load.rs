//! Reading checkpoints: `config.json`, memory-mapped safetensors (one file, or shards with an index).
//!
//! Nothing outside the folder is read, whatever an index says; every error names file and tensor.
#![expect(unsafe_code, reason = "memory-maps weight files")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::arch;
use super::config::DecoderConfig;
use super::names;
use crate::error::{AtPath, Error, Result};

/// One memory-mapped safetensors file, its header checked.
pub struct SafeFile {
    path: PathBuf,
    map: memmap2::Mmap,
}

impl SafeFile {
    /// Maps a file and checks its header.
    ///
    /// # Errors
    /// When it is missing, empty, truncated or no safetensors file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).at(path)?;
        if file.metadata().at(path)?.len() < 8 {
            return Err(Error::file(path, "is too short to be a safetensors file; fetch or copy it again"));
        }
        // SAFETY: a file that somebody shrinks while it is mapped would fault; weights are not edited during a run.
        let map = unsafe { memmap2::Mmap::map(&file) }.at(path)?;
        let opened = Self { path: path.to_path_buf(), map };
        opened.parsed()?;
        Ok(opened)
    }

    fn parsed(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.map).map_err(|error| {
            Error::file(&self.path, format!("is no whole safetensors file ({error}); fetch or copy it again"))
        })
    }

    /// The names of its tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .parsed()
            .map(|file| file.names().iter().map(|n| (*n).to_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    /// A tensor's type as it lies in the file; `None` where it is missing or of a type that is not read.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        supported(self.parsed().ok()?.tensor(name).ok()?.dtype())
    }

    /// Whether two tensors hold the same bytes of one type and shape.
    fn same(&self, name: &str, other: &Self, of_other: &str) -> Result<bool> {
        let (file, other) = (self.parsed()?, other.parsed()?);
        let views = file.tensor(name).ok().zip(other.tensor(of_other).ok());
        Ok(views
            .is_some_and(|(a, b)| a.dtype() == b.dtype() && a.shape() == b.shape() && a.data() == b.data()))
    }

    /// One tensor; its shape checked where one is expected.
    ///
    /// # Errors
    /// When it is missing, or has another shape or type.
    pub fn tensor(&self, name: &str, shape: Option<&[usize]>, device: &Device) -> Result<Tensor> {
        let file = self.parsed()?;
        let view =
            file.tensor(name).map_err(|_| Error::file(&self.path, format!("tensor {name} is missing")))?;
        if let Some(shape) = shape.filter(|shape| *shape != view.shape()) {
            return Err(Error::file(
                &self.path,
                format!("tensor {name} is {:?}, config.json asks for {shape:?}", view.shape()),
            ));
        }
        let kind = supported(view.dtype()).ok_or_else(|| {
            Error::file(
                &self.path,
                format!("tensor {name} is {:?}; F32, BF16, F16 or F64 are supported", view.dtype()),
            )
        })?;
        Ok(Tensor::from_raw_buffer(view.data(), kind, view.shape(), device)?)
    }
}

fn supported(kind: Dtype) -> Option<DType> {
    match kind {
        Dtype::F32 => Some(DType::F32),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F16 => Some(DType::F16),
        Dtype::F64 => Some(DType::F64),
        _ => None,
    }
}

/// A model folder: its settings, and where each tensor lies.
pub struct Checkpoint {
    folder: PathBuf,
    config: DecoderConfig,
    files: Vec<SafeFile>,
    place: BTreeMap<String, usize>,
    output: bool,
}

impl Checkpoint {
    /// Opens a folder and checks that every weight is there.
    ///
    /// # Errors
    /// Names the file, key or tensor at fault.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_whole(folder, true)
    }

    /// As [`Self::open`], for a model that may lack the output layer, such as a token classifier: the decoder then
    /// stands with its embedding in that place, which nothing should read ([`Self::has_output_layer`]).
    ///
    /// # Errors
    /// Names the file, key or tensor at fault.
    pub fn open_headless(folder: &Path) -> Result<Self> {
        Self::open_whole(folder, false)
    }

    fn open_whole(folder: &Path, output_layer: bool) -> Result<Self> {
        let mut config = read_config(folder)?;
        let index = folder.join("model.safetensors.index.json");
        let single = folder.join("model.safetensors");
        let names = match (single.is_file(), index.is_file()) {
            (true, _) => vec![single],
            (false, true) => shards(folder, &index)?,
            _ => {
                let other = ["pytorch_model.bin", "pytorch_model.bin.index.json"]
                    .into_iter()
                    .find(|n| folder.join(n).is_file());
                let hint = other
                    .map(|n| format!(" ({n} is there, but pickled weights are not read: convert them)"))
                    .unwrap_or_default();
                return Err(Error::file(
                    single,
                    format!("not found, nor model.safetensors.index.json{hint}"),
                ));
            }
        };
        let files = names.iter().map(|path| SafeFile::open(path)).collect::<Result<Vec<_>>>()?;
        let mut place: BTreeMap<String, usize> = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for name in file.names() {
                if let Some(other) = place.get(&name) {
                    let other = files[*other].path.display();
                    return Err(Error::file(&file.path, format!("tensor {name} is in {other} too")));
                }
                place.insert(name, number);
            }
        }
        // As in transformers 5, a head in the files that is not the embedding is the head, whatever config.json says.
        if let (true, Some(head), Some(embedding)) =
            (config.tied, place.get(names::HEAD), place.get(names::EMBEDDING))
            && !files[*head].same(names::HEAD, &files[*embedding], names::EMBEDDING)?
        {
            config.untie();
        }
        let output = config.tied || place.contains_key(names::HEAD);
        if !output && !output_layer {
            config.tied = true;
            config.biases.head = false;
        }
        let checkpoint = Self { folder: folder.to_path_buf(), config, files, place, output };
        for (name, _) in names::all(&checkpoint.config) {
            checkpoint.file_of(&name)?;
        }
        Ok(checkpoint)
    }

    /// Its settings.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Its weight files: name and bytes.
    pub fn files(&self) -> impl Iterator<Item = (String, usize)> {
        self.files.iter().map(|file| {
            let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned());
            (name.unwrap_or_default(), file.map.len())
        })
    }

    /// The type a tensor has in its file.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.files[*self.place.get(name)?].dtype(name)
    }

    /// The types of its tensors.
    pub fn dtypes(&self) -> Vec<&'static str> {
        let mut all: Vec<_> =
            self.place.keys().filter_map(|name| self.dtype(name)).map(|kind| kind.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Checks that no weight is NaN or infinite: reads all of them.
    ///
    /// # Errors
    /// Names file and tensor.
    pub fn check_finite(&self) -> Result<()> {
        for (name, number) in &self.place {
            let file = &self.files[*number];
            let tensor = file.tensor(name, None, &Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?;
            // One NaN or infinity makes the sum of zero times everything NaN.
            let sum = (tensor * 0.0)?.sum_all()?.to_scalar::<f32>()?;
            if sum.is_nan() {
                return Err(Error::file(&file.path, format!("tensor {name} holds NaN or infinity")));
            }
        }
        Ok(())
    }

    /// What should be said of weights that the files hold and the decoder does not read, if there are any. Heads of
    /// reward models, rotary tables and a head that is the embedding are none.
    pub fn unread(&self) -> Option<String> {
        let read: BTreeSet<String> = names::all(&self.config).into_iter().map(|(name, _)| name).collect();
        let known = |name: &str| {
            name.starts_with("score") || name.ends_with("rotary_emb.inv_freq") || name == names::HEAD
        };
        let unread: Vec<&String> =
            self.place.keys().filter(|name| !read.contains(*name) && !known(name)).collect();
        let first: Vec<&str> = unread.iter().take(3).map(|name| name.as_str()).collect();
        let more = if unread.len() > first.len() { ", ..." } else { "" };
        (!unread.is_empty()).then(|| {
            format!(
                "{}: {} tensors are not read, as config.json names no place for them: {}{more}",
                self.folder.display(),
                unread.len(),
                first.join(", ")
            )
        })
    }

    /// Whether there is an output layer over the vocabulary.
    pub fn has_output_layer(&self) -> bool {
        self.output
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it has this tensor, whatever its use.
    pub fn has(&self, name: &str) -> bool {
        self.place.contains_key(name)
    }

    fn file_of(&self, name: &str) -> Result<&SafeFile> {
        self.place.get(name).map(|number| &self.files[*number]).ok_or_else(|| {
            let (path, of) = match self.files.as_slice() {
                [one] => (one.path.clone(), "here"),
                _ => (self.folder.clone(), "in any of the weight files"),
            };
            Error::file(path, format!("tensor {name}, which config.json asks for, is not {of}"))
        })
    }

    /// One tensor, its shape checked where one is expected.
    ///
    /// # Errors
    /// Names file and tensor.
    pub fn tensor(&self, name: &str, shape: Option<&[usize]>, device: &Device) -> Result<Tensor> {
        self.file_of(name)?.tensor(name, shape, device)
    }
}

/// What a model folder holds.
pub(super) const MADE_OF: &str = "a model is a folder with config.json, tokenizer.json and model.safetensors: copy what is missing from where the model came from";

/// The settings of a model folder.
///
/// # Errors
/// Names the file and key at fault.
pub fn read_config(folder: &Path) -> Result<DecoderConfig> {
    let path = folder.join("config.json");
    if !folder.is_dir() {
        return Err(Error::file(folder, format!("is no folder; {MADE_OF}")));
    }
    if !path.exists() {
        let what = match folder.join("adapter_config.json").is_file() {
            true => {
                "this is an adapter: give it as --adapter, and as the model the one that it was trained on"
            }
            false => MADE_OF,
        };
        return Err(Error::file(path, format!("not found; {what}")));
    }
    let text = std::fs::read_to_string(&path).at(&path)?;
    let json: Value = serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
    let mut config = arch::parse(&json).map_err(|message| Error::file(&path, message))?;
    let path = folder.join("generation_config.json");
    if path.is_file() {
        let text = std::fs::read_to_string(&path).at(&path)?;
        let json: Value =
            serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
        // Chat models name there what ends a turn, beside what ends a text.
        let ids = (arch::Keys { source: &json }).eos().map_err(|message| Error::file(&path, message))?;
        for id in ids {
            if !config.eos.contains(&id) {
                config.eos.push(id);
            }
        }
    }
    Ok(config)
}

/// The shard files that an index names, each inside the folder.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let bad = |message: String| Error::file(index, message);
    let text = std::fs::read_to_string(index).at(index)?;
    let json: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let map = json
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| bad("weight_map is missing".into()))?;
    let mut files = std::collections::BTreeSet::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| bad(format!("weight_map: {tensor} names no file")))?;
        let mut parts = Path::new(file).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || file.contains('\\') {
            return Err(bad(format!("weight_map: {tensor} lies in {file:?}, which leads out of the folder")));
        }
        files.insert(file);
    }
    if files.is_empty() {
        return Err(bad("weight_map is empty".into()));
    }
    let missing = files.iter().find(|file| !folder.join(file).is_file());
    match missing {
        Some(file) => Err(bad(format!("shard {file} is missing from {}", folder.display()))),
        None => Ok(files.iter().map(|file| folder.join(file)).collect()),
    }
}
