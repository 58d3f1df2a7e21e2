//! GGUF files as Hugging Face folders: weights dequantised by candle, names and row order as the families have them,
//! the tokenizer from the file's own vocabulary.
//!
//! Covers what llama.cpp's converter writes for Llama, Mistral, Qwen2, Qwen3, Gemma and Gemma-2. The folder serves
//! as any other; nothing in it is quantised any more, so it takes the memory of its 16-bit weights.

mod settings;
mod vocabulary;

use std::collections::BTreeMap;
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
    let mut tensors = BTreeMap::new();
    for (name, shape) in names::all(&config) {
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
        checkpoint.check_tokenizer(&tokenizer).unwrap();
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
                .contains("blk.1.attn_k.weight")
        );
        let kind = replaced(b"tokenizer.ggml.tokens", b"tokenizer.ggml.xokens");
        assert!(message(&kind).contains("tokenizer.ggml.tokens"));
    }
}
