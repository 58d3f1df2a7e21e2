//! Writing checkpoints: tensors and texts, each moved into place at once.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use candle_core::{DType, Tensor};
use safetensors::tensor::TensorView;

use crate::error::{AtPath, Error, Result};

/// What the name of a half-written file begins and ends with.
const STAGED: (&str, &str) = (".sipf-", ".new");

/// Removes what a process that was killed while writing left in a folder.
///
/// # Errors
/// When the folder cannot be read or a file cannot be removed.
pub fn sweep(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let ours = name.starts_with(STAGED.0) && name.ends_with(STAGED.1);
        // What safetensors calls a file that it is writing.
        let theirs = name.starts_with(".tmp") && name.len() == ".tmpXXXXXX".len();
        if ours || theirs {
            std::fs::remove_file(&path).at(&path)?;
        }
    }
    Ok(())
}

/// Writes a text file atomically.
///
/// # Errors
/// When it cannot be written; nothing half-written stays under its name.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_bytes(path, text.as_bytes())
}

/// Writes a file atomically: beside, synced, moved into place.
///
/// # Errors
/// When it cannot be written; nothing half-written stays under its name.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (before, behind) = STAGED;
    // Opened and written as a plain file: errors of tempfile's own name its passing name.
    let open = |name: &Path| std::fs::File::options().write(true).create_new(true).open(name);
    let mut staged = tempfile::Builder::new().prefix(before).suffix(behind).make_in(folder, open).at(path)?;
    staged.as_file_mut().write_all(bytes).at(path)?;
    staged.as_file().sync_all().at(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(staged.path(), std::fs::Permissions::from_mode(0o644)).at(path)?;
    }
    staged.persist(path).map_err(|error| error.error).at(path)?;
    Ok(())
}

/// Writes tensors as safetensors, in the order of names.
///
/// # Errors
/// When they cannot be written.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let bytes: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let (kind, bytes) = bytes_of(tensor)?;
            Ok((name.clone(), kind, tensor.dims().to_vec(), bytes))
        })
        .collect::<Result<_>>()?;
    let views = bytes
        .iter()
        .map(|(name, kind, shape, bytes)| {
            let view = TensorView::new(*kind, shape.clone(), bytes)
                .map_err(|error| Error::file(path, error.to_string()))?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = Some(std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]));
    let file =
        safetensors::serialize(views, metadata).map_err(|error| Error::file(path, error.to_string()))?;
    write_bytes(path, &file)
}

fn bytes_of(tensor: &Tensor) -> Result<(safetensors::Dtype, Vec<u8>)> {
    let flat = tensor.to_device(&candle_core::Device::Cpu)?.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::BF16 => {
            let values = flat.to_vec1::<half::bf16>()?;
            (safetensors::Dtype::BF16, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        DType::F16 => {
            let values = flat.to_vec1::<half::f16>()?;
            (safetensors::Dtype::F16, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        DType::F32 => {
            let values = flat.to_vec1::<f32>()?;
            (safetensors::Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        other => return Err(Error::unusable(format!("tensors of type {other:?} are not written"))),
    })
}

/// What a model folder holds beside weights and `config.json`.
const BESIDE: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.model",
    "added_tokens.json",
];

/// Copies the tokenizer's files, and `generation_config.json`, from one model folder to another.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<()> {
    for name in BESIDE {
        let source = from.join(name);
        if source.is_file() {
            write_bytes(&to.join(name), &std::fs::read(&source).at(&source)?)?;
        }
    }
    Ok(())
}

/// A type as `config.json` spells it.
pub fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        DType::F64 => "float64",
        _ => "float32",
    }
}

/// Weight files are split above this many bytes, as the Hub's tools do.
const SHARD_BYTES: usize = 5_000_000_000;

/// Writes `model.safetensors`, or shards with an index where it would be very large.
///
/// # Errors
/// When something cannot be written.
pub fn write_checkpoint(folder: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    write_shards(folder, tensors, SHARD_BYTES)
}

/// As [`write_checkpoint`] with another limit.
///
/// # Errors
/// When something cannot be written.
pub fn write_shards(folder: &Path, tensors: &BTreeMap<String, Tensor>, limit: usize) -> Result<()> {
    let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
    let mut shards: Vec<BTreeMap<String, Tensor>> = vec![BTreeMap::new()];
    let mut filled = 0;
    for (name, tensor) in tensors {
        if filled > 0 && filled + size(tensor) > limit {
            shards.push(BTreeMap::new());
            filled = 0;
        }
        filled += size(tensor);
        shards.last_mut().map(|shard| shard.insert(name.clone(), tensor.clone()));
    }
    if shards.len() == 1 {
        write_tensors(&folder.join("model.safetensors"), &shards[0])?;
        return remove(&folder.join("model.safetensors.index.json"));
    }
    let mut map = serde_json::Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        write_tensors(&folder.join(&file), shard)?;
        map.extend(shard.keys().map(|name| (name.clone(), file.clone().into())));
    }
    let total: usize = tensors.values().map(size).sum();
    let index = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": map });
    write_text(
        &folder.join("model.safetensors.index.json"),
        &format!("{}\n", serde_json::to_string_pretty(&index)?),
    )?;
    // A single file of an earlier save would be read instead.
    remove(&folder.join("model.safetensors"))
}

fn remove(path: &Path) -> Result<()> {
    match path.exists() {
        true => std::fs::remove_file(path).at(path),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_written_files_are_swept_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (before, behind) = STAGED;
        for name in
            [&format!("{before}AbCdEf{behind}"), ".tmpAbCdEf", ".tmp", "model.safetensors", ".sipf-notes"]
        {
            std::fs::write(folder.path().join(name), "x").expect("written");
        }
        sweep(folder.path()).expect("swept");
        let mut left: Vec<String> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, [".sipf-notes", ".tmp", "model.safetensors"]);
    }
}
