//! GGUF files as Hugging Face folders: weights dequantised by candle, names and row order as the families have them,
//! the tokenizer from the file's own vocabulary.
//!
//! Covers what llama.cpp's converter writes for Llama, Mistral, Qwen2, Qwen3, Gemma and Gemma-2. The folder serves
//! as any other; nothing in it is quantised any more, so it takes the memory of its 16-bit weights.

mod settings;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::{arch, config::DecoderConfig, names, save};
use crate::{AtPath, Error, Result};
use settings::Metadata;

/// Converts a GGUF file into the model folder `out`. A `tokenizer.json` beside the file is taken instead of the file's
/// own vocabulary.
///
/// # Errors
/// When the file is damaged, or holds an architecture, a tensor or a vocabulary that is not supported; the message names
/// it.
pub fn convert(source: &Path, out: &Path) -> Result<()> {
    let bad = |message: String| Error::file(source, message);
    let mut file = BufReader::new(File::open(source).at(source)?);
    let content = Content::read(&mut file).map_err(|error| bad(format!("is no whole GGUF file: {error}")))?;
    let metadata = Metadata::of(&content).map_err(bad)?;
    let settings = metadata.config().map_err(bad)?;
    let config = arch::parse(&settings).map_err(bad)?;
    if content.tensor_infos.contains_key("rope_freqs.weight") {
        return Err(bad(
            "has rope_freqs.weight (the rotary scaling of Llama 3.1 and later), whose settings a GGUF file \
            does not hold; use the original checkpoint"
                .into(),
        ));
    }
    let weights = names::all(&config);
    let read: BTreeSet<String> = weights.iter().map(|(name, _)| in_file(name, &config)).collect();
    let unread: BTreeSet<&String> =
        content.tensor_infos.keys().filter(|name| !read.contains(name.as_str())).collect();
    if let Some(first) = unread.first() {
        return Err(bad(format!(
            "tensor {first} (one of {} such) has no place in a {} model here; use the original checkpoint",
            unread.len(),
            config.family
        )));
    }
    let mut tensors = BTreeMap::new();
    for (name, shape) in weights {
        let here = in_file(&name, &config);
        let quantised = content
            .tensor(&mut file, &here, &Device::Cpu)
            .map_err(|error| bad(format!("tensor {here} cannot be read: {error}")))?;
        let kind = match quantised.dtype() {
            GgmlDType::F32 => DType::F32,
            GgmlDType::BF16 => DType::BF16,
            _ => DType::F16,
        };
        let tensor = quantised.dequantize(&Device::Cpu)?;
        if tensor.dims() != shape {
            return Err(bad(format!("tensor {here} is {:?}, its settings ask for {shape:?}", tensor.dims())));
        }
        tensors.insert(name.clone(), restored(&name, tensor, &metadata, &config)?.to_dtype(kind)?);
    }
    std::fs::create_dir_all(out).at(out)?;
    let beside = source.with_file_name("tokenizer.json");
    let write = |name: &str, value: &Value| {
        save::write_text(&out.join(name), &format!("{}\n", serde_json::to_string_pretty(value)?))
    };
    if beside.is_file() {
        save::copy_tokenizer(beside.parent().unwrap_or(Path::new(".")), out)?;
    } else {
        write("tokenizer.json", &vocabulary::tokenizer(&metadata).map_err(bad)?)?;
        write("tokenizer_config.json", &vocabulary::special_tokens(&metadata).map_err(bad)?)?;
    }
    write("config.json", &settings)?;
    save::write_checkpoint(out, &tensors)
}

/// What llama.cpp calls a weight.
fn in_file(name: &str, config: &DecoderConfig) -> String {
    let sandwich = config.family == "gemma2";
    let (head, kind) = name.rsplit_once('.').unwrap_or((name, "weight"));
    let Some((layer, part)) = head.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) else {
        let outer = match head {
            "model.embed_tokens" => "token_embd",
            "model.norm" => "output_norm",
            _ => "output",
        };
        return format!("{outer}.{kind}");
    };
    let part = match part {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if sandwich => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other => other,
    };
    format!("blk.{layer}.{part}.{kind}")
}

/// A weight as Hugging Face has it: llama.cpp rotates neighbouring pairs of a Llama's heads instead of their halves, and
/// adds the 1 of Gemma's norms into them.
fn restored(name: &str, tensor: Tensor, metadata: &Metadata<'_>, config: &DecoderConfig) -> Result<Tensor> {
    let heads = match name.rsplit('.').nth(1) {
        Some("q_proj") if metadata.arch == "llama" => config.heads,
        Some("k_proj") if metadata.arch == "llama" => config.kv_heads,
        _ if metadata.arch.starts_with("gemma") && name.ends_with("norm.weight") => {
            return Ok((tensor - 1.0)?);
        }
        _ => return Ok(tensor),
    };
    let shape = tensor.dims().to_vec();
    let width = tensor.elem_count() / shape[0];
    let pairs = tensor.reshape((heads, config.head_dim / 2, 2, width))?;
    Ok(pairs.transpose(1, 2)?.contiguous()?.reshape(shape)?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use candle_core::quantized::QTensor;
    use candle_core::quantized::gguf_file::{self, Value as Entry};

    use super::*;
    use crate::model::{Attention, Checkpoint, Decoder, LoadOptions, Packed, Pass, Tokenizer};

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/model/gguf")
    }

    #[test]
    fn a_file_of_llama_cpp_s_gives_transformers_logits_and_ids() {
        let out = tempfile::tempdir().unwrap();
        convert(&golden().join("llama.gguf"), out.path()).unwrap();
        let checkpoint = Checkpoint::open(out.path()).unwrap();
        let golden: Value =
            serde_json::from_str(&std::fs::read_to_string(golden().join("golden.json")).unwrap()).unwrap();
        let ids: Vec<u32> =
            golden["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let tokenizer = Tokenizer::load(out.path()).unwrap();
        assert_eq!(tokenizer.encode(golden["text"].as_str().unwrap(), true).unwrap(), ids);
        assert_eq!(tokenizer.decode(&ids).unwrap(), golden["text"].as_str().unwrap());
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
        let decoder = Decoder::of_checkpoint(&checkpoint, &LoadOptions::default()).unwrap();
        let packed = Packed::of_lengths([ids.len()]);
        let hidden =
            decoder.hidden(&ids, &packed.positions(), Attention::Packed(&packed), &Pass::default()).unwrap();
        let logits: Vec<Vec<f32>> = decoder.logits(&hidden).unwrap().to_vec2().unwrap();
        for (row, expected) in logits.iter().zip(golden["logits"].as_array().unwrap()) {
            for (a, b) in row.iter().zip(expected.as_array().unwrap()) {
                // The folder keeps what was quantised in 16 bits.
                assert!((f64::from(*a) - b.as_f64().unwrap()).abs() < 4e-3, "{a} for {b}");
            }
        }
    }

    /// The golden file with other settings and tensors.
    fn changed(settings: &[(&str, Entry)], tensors: &[(&str, usize)]) -> (tempfile::TempDir, PathBuf) {
        let mut file = BufReader::new(File::open(golden().join("llama.gguf")).unwrap());
        let content = Content::read(&mut file).unwrap();
        let kept = content
            .tensor_infos
            .keys()
            .map(|name| (name.clone(), content.tensor(&mut file, name, &Device::Cpu).unwrap()));
        let mut all: BTreeMap<String, QTensor> = kept.collect();
        for (name, width) in tensors {
            let ones = Tensor::ones(*width, DType::F32, &Device::Cpu).unwrap();
            all.insert((*name).to_owned(), QTensor::quantize(&ones, GgmlDType::F32).unwrap());
        }
        let mut metadata = content.metadata.clone();
        metadata.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changed.gguf");
        let metadata: Vec<(&str, &Entry)> =
            metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let all: Vec<(&str, &QTensor)> = all.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &all).unwrap();
        (folder, path)
    }

    #[test]
    fn what_changes_the_arithmetic_is_computed_or_refused() {
        let convert = |settings: &[(&str, Entry)], tensors: &[(&str, usize)]| {
            let (folder, path) = changed(settings, tensors);
            let out = folder.path().join("out");
            convert(&path, &out).map(|()| (Checkpoint::open(&out).unwrap(), folder))
        };
        let (plain, _folder) = convert(&[], &[]).unwrap();
        let (hidden, inner) = (plain.config().hidden, plain.config().intermediate);
        let biases: Vec<(String, usize)> = (0..plain.config().layers)
            .flat_map(|n| {
                let at = move |part: &str| format!("blk.{n}.ffn_{part}.bias");
                [(at("gate"), inner), (at("up"), inner), (at("down"), hidden)]
            })
            .collect();
        let biases: Vec<(&str, usize)> = biases.iter().map(|(name, width)| (name.as_str(), *width)).collect();
        let (biased, _folder) = convert(&[], &biases).unwrap();
        assert!(biased.config().biases.feed_forward && biased.has("model.layers.1.mlp.down_proj.bias"));
        let (windowed, _folder) = convert(&[("llama.attention.sliding_window", Entry::U32(5))], &[]).unwrap();
        assert_eq!((windowed.config().family.as_str(), windowed.config().windows[0]), ("mistral", Some(5)));

        let refused = |settings: &[(&str, Entry)], tensors: &[(&str, usize)]| match convert(settings, tensors)
        {
            Ok(_) => panic!("converted"),
            Err(error) => error.to_string(),
        };
        let message = refused(&[], &[("blk.0.attn_sinks.weight", 4), ("blk.1.attn_sinks.weight", 4)]);
        assert!(message.contains("blk.0.attn_sinks.weight") && message.contains("2 such"), "{message}");
        let message = refused(&[], &[("blk.0.attn_output.bias", hidden)]);
        assert!(message.contains("blk.0.attn_output.bias"), "{message}");
        let message = refused(&[("llama.attention.scale", Entry::F32(0.5))], &[]);
        assert!(message.contains("llama.attention.scale"), "{message}");
        let message = refused(&[("llama.rope.dimension_count", Entry::U32(2))], &[]);
        assert!(message.contains("rope.dimension_count is 2"), "{message}");
    }

    #[test]
    fn damaged_files_say_so() {
        let bytes = std::fs::read(golden().join("llama.gguf")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.gguf");
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            convert(&path, &folder.path().join("out")).unwrap_err().to_string()
        };
        for keep in [0, 3, 20, 200, 3000, 9000, bytes.len() / 2, bytes.len() - 100] {
            let message = message(&bytes[..keep]);
            assert!(message.contains("damaged.gguf"), "{keep}: {message}");
        }
        let replaced = |from: &[u8], to: &[u8]| {
            let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
            let mut bytes = bytes.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            bytes
        };
        assert!(message(&replaced(b"llama", b"mamba")).contains("mamba"));
        assert!(message(&replaced(b"llama.block_count", b"llama.block_xount")).contains("block_count"));
        assert!(
            message(&replaced(b"blk.1.attn_k.weight", b"blk.1.attn_x.weight"))
                .contains("blk.1.attn_x.weight")
        );
        let kind = replaced(b"tokenizer.ggml.tokens", b"tokenizer.ggml.xokens");
        assert!(message(&kind).contains("tokenizer.ggml.tokens"));
    }
}
