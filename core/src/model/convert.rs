//! Models in llama2.c's format (`*.bin` with `tok*.model` or `tok*.bin`) as Hugging Face folders.
//!
//! Versions 0 and 1 of the format are read; version 2 holds quantised weights and is refused. llama2.c rotates
//! neighbouring pairs of a head, Hugging Face its two halves, so the rows of query and key weights change places.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::sentencepiece::{self, Around, Piece};
use crate::{AtPath, Error, Result};

const MAGIC: u32 = 0x616b_3432;
/// RMSNorm's epsilon and the base of the rotation are constants of llama2.c, not fields of its files.
const NORM_EPSILON: f64 = 1e-5;
const ROTARY_BASE: f64 = 10_000.0;

/// The seven numbers of a llama2.c header, and what the first bytes say besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    dim: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    vocab: usize,
    context: usize,
    tied: bool,
    version: u32,
    /// Bytes before the weights.
    offset: usize,
}

/// Converts the llama2.c model in `source` (a folder, or its `*.bin` file) into `out`.
///
/// Writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json and model.safetensors.
///
/// # Errors
/// When a file is missing, has another size than its header says, or cannot be written.
pub fn llama2c(source: &Path, out: &Path) -> Result<()> {
    let (weights, tokens) = find(source)?;
    let bytes = std::fs::read(&weights).at(&weights)?;
    let header = Header::read(&bytes).map_err(|message| Error::file(&weights, message))?;
    let pieces = sentencepiece::read(&tokens)?;
    if pieces.len() != header.vocab {
        return Err(Error::file(
            &tokens,
            format!(
                "holds {} tokens, but {} has {} rows for them",
                pieces.len(),
                weights.display(),
                header.vocab
            ),
        ));
    }
    let tensors = header.tensors(&bytes).map_err(|message| Error::file(&weights, message))?;
    std::fs::create_dir_all(out).at(out)?;
    let write = |name: &str, value: &Value| -> Result<()> {
        let path = out.join(name);
        std::fs::write(&path, serde_json::to_string_pretty(value)? + "\n").at(&path)
    };
    write("config.json", &header.config())?;
    // Stories are delimited by BOS in these models: llama2.c ends at either token.
    let generation =
        json!({"bos_token_id": 1, "eos_token_id": [2, 1], "pad_token_id": 0, "do_sample": false});
    write("generation_config.json", &generation)?;
    write("tokenizer.json", &sentencepiece::tokenizer_json(&pieces, &Around::default()))?;
    write("tokenizer_config.json", &tokenizer_config(&pieces))?;
    let views: std::result::Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view))
        })
        .collect();
    let path = out.join("model.safetensors");
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    views
        .and_then(|views| safetensors::serialize_to_file(views, Some(metadata), &path))
        .map_err(|error| Error::file(&path, error.to_string()))
}

/// The one weight file and the token file beside it; a `.model` is taken before a `.bin`.
fn find(source: &Path) -> Result<(PathBuf, PathBuf)> {
    let (folder, only) = match source.is_dir() {
        true => (source, None),
        false => (source.parent().unwrap_or(Path::new(".")), Some(source)),
    };
    let (mut weights, mut tokens) = (Vec::new(), Vec::new());
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in std::fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned());
        match extension.as_deref() {
            Some("model") => tokens.push(path),
            Some("bin") if name.starts_with("tok") => tokens.push(path),
            Some("bin") => weights.push(path),
            _ => {}
        }
    }
    weights.sort();
    tokens.sort_by_key(|path| (path.extension().is_some_and(|extension| extension == "bin"), path.clone()));
    let weights = match only {
        Some(path) => path.to_path_buf(),
        None if weights.len() == 1 => weights.remove(0),
        None => {
            return Err(Error::file(
                folder,
                format!(
                    "holds {} weight files (*.bin but not tok*.bin); name the one to convert",
                    weights.len()
                ),
            ));
        }
    };
    let missing = || Error::file(folder, "holds no token file (tok*.model or tok*.bin)");
    Ok((weights, tokens.into_iter().next().ok_or_else(missing)?))
}

fn tokenizer_config(pieces: &[Piece]) -> Value {
    let name = |id: usize| pieces.get(id).map_or("", |piece| piece.text.as_str());
    json!({
        "tokenizer_class": "LlamaTokenizerFast", "unk_token": name(0), "bos_token": name(1), "eos_token": name(2),
        "pad_token": name(0), "add_bos_token": true, "add_eos_token": false, "legacy": false,
        "clean_up_tokenization_spaces": false,
    })
}

impl Header {
    fn read(bytes: &[u8]) -> std::result::Result<Self, String> {
        let int = |at: usize| -> std::result::Result<i32, String> {
            match bytes.get(at..at + 4) {
                Some(four) => Ok(i32::from_le_bytes([four[0], four[1], four[2], four[3]])),
                None => Err(format!("ends inside its header, after {} bytes", bytes.len())),
            }
        };
        let (version, start, offset) = match int(0)? as u32 {
            MAGIC => (int(4)? as u32, 8, 256),
            _ => (0, 0, 28),
        };
        if version > 1 {
            return Err(format!(
                "is version {version} of llama2.c's format (quantised); versions 0 and 1 are read"
            ));
        }
        let mut numbers = [0usize; 7];
        let mut tied = true;
        for (at, number) in numbers.iter_mut().enumerate() {
            let value = int(start + 4 * at)?;
            // Version 0 marks an output layer of its own by a negative number of tokens.
            if at == 5 && version == 0 && value < 0 {
                tied = false;
            } else if value <= 0 {
                return Err(format!("is no llama2.c model: number {at} of its header is {value}"));
            }
            *number = value.unsigned_abs() as usize;
        }
        if version == 1 {
            tied = bytes.get(36).copied().unwrap_or(1) != 0;
        }
        let [dim, hidden, layers, heads, kv_heads, vocab, context] = numbers;
        let limit = 1 << 24;
        let even = dim % heads == 0 && heads % kv_heads == 0 && (dim / heads).is_multiple_of(2);
        if !even || numbers.iter().any(|number| *number > limit) {
            return Err(format!("is no llama2.c model: its header says {numbers:?}"));
        }
        Ok(Self { dim, hidden, layers, heads, kv_heads, vocab, context, tied, version, offset })
    }

    fn config(&self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": self.dim,
            "intermediate_size": self.hidden, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab, "max_position_embeddings": self.context,
            "rms_norm_eps": NORM_EPSILON, "rope_theta": ROTARY_BASE, "rope_scaling": null, "hidden_act": "silu",
            "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": self.tied, "torch_dtype": "float32",
            "bos_token_id": 1, "eos_token_id": 2, "use_cache": true,
        })
    }

    /// Every weight under its Hugging Face name, as little-endian f32.
    fn tensors(&self, bytes: &[u8]) -> std::result::Result<Vec<(String, Vec<usize>, Vec<u8>)>, String> {
        let head = self.dim / self.heads;
        let (d, h, kv) = (self.dim, self.hidden, self.kv_heads * head);
        // Name inside a layer (or the whole name), shape; in the order of the file.
        let embed = ("model.embed_tokens", vec![self.vocab, d], false);
        let attention_norm = ("input_layernorm", vec![d], true);
        let ffn_norm = ("post_attention_layernorm", vec![d], true);
        let norm = ("model.norm", vec![d], false);
        let attention = [
            ("self_attn.q_proj", vec![d, d], true),
            ("self_attn.k_proj", vec![kv, d], true),
            ("self_attn.v_proj", vec![kv, d], true),
            ("self_attn.o_proj", vec![d, d], true),
        ];
        let ffn = [
            ("mlp.gate_proj", vec![h, d], true),
            ("mlp.down_proj", vec![d, h], true),
            ("mlp.up_proj", vec![h, d], true),
        ];
        let mut order = Vec::new();
        if self.version == 0 {
            order.extend([embed, attention_norm]);
            order.extend(attention);
            order.push(ffn_norm);
            order.extend(ffn);
            // Two tables of angles, which nobody reads any more.
            order.extend([norm, ("", vec![self.context, head], false)]);
        } else {
            order.extend([attention_norm, ffn_norm, norm, embed]);
            order.extend(attention);
            order.extend(ffn);
        }
        if !self.tied {
            order.push(("lm_head", vec![self.vocab, d], false));
        }
        let numbers = |shape: &[usize], each: bool| {
            shape.iter().product::<usize>() * if each { self.layers } else { 1 }
        };
        let expected =
            self.offset + 4 * order.iter().map(|(_, shape, each)| numbers(shape, *each)).sum::<usize>();
        if bytes.len() != expected {
            return Err(format!("has {} bytes, but its header asks for {expected}: {self:?}", bytes.len()));
        }
        let mut at = self.offset;
        let mut tensors = Vec::new();
        for (name, shape, each) in order {
            let size = 4 * shape.iter().product::<usize>();
            for layer in 0..if each { self.layers } else { 1 } {
                let mut data = bytes[at..at + size].to_vec();
                at += size;
                match name {
                    "" => continue,
                    "self_attn.q_proj" => data = halves(&data, self.heads, head, 4 * d),
                    "self_attn.k_proj" => data = halves(&data, self.kv_heads, head, 4 * d),
                    _ => {}
                }
                let name = if each {
                    format!("model.layers.{layer}.{name}.weight")
                } else {
                    format!("{name}.weight")
                };
                tensors.push((name, shape.clone(), data));
            }
        }
        Ok(tensors)
    }
}

/// Rows of every head from pairs (0 1) (2 3) … to halves (0 2 …) (1 3 …).
fn halves(rows: &[u8], heads: usize, head: usize, width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len());
    for h in 0..heads {
        for half in 0..2 {
            for pair in 0..head / 2 {
                let row = h * head + 2 * pair + half;
                out.extend_from_slice(&rows[row * width..(row + 1) * width]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tokenizer;

    /// The published model, where the data is at hand.
    fn stories() -> Option<PathBuf> {
        let root = std::env::var_os("SIPF_DATA")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
        let folder = root.join("stories260k");
        folder.is_dir().then_some(folder)
    }

    #[test]
    fn the_published_stories_become_a_folder() {
        let Some(source) = stories() else {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped: no stories260k data (set SIPF_DATA)");
            return;
        };
        let out = tempfile::tempdir().expect("a folder");
        llama2c(&source, out.path()).expect("converts");
        let bytes = std::fs::read(out.path().join("model.safetensors")).expect("weights");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(tensors.len(), 2 + 9 * 5);
        let numbers: usize = tensors.iter().map(|(_, view)| view.shape().iter().product::<usize>()).sum();
        assert_eq!(numbers, 260_032);
        let tokenizer = Tokenizer::load(out.path()).expect("a tokenizer");
        let ids = tokenizer.encode("Once upon a time, there was a little girl", true).expect("encodes");
        assert_eq!(ids[..11], [1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298]);
        assert_eq!(tokenizer.decode(&ids).expect("decodes"), "Once upon a time, there was a little girl");
        let odd = "naïve \n 二 <s>";
        assert_eq!(
            tokenizer.decode(&tokenizer.encode(odd, false).expect("encodes")).expect("decodes"),
            "naïve \n 二 "
        );
        // The other spelling of the vocabulary gives the same tokenizer.
        let from_bin = sentencepiece::read(&source.join("tok512.bin")).expect("reads");
        let from_model = sentencepiece::read(&source.join("tok512.model")).expect("reads");
        let json = |pieces: &[Piece]| sentencepiece::tokenizer_json(pieces, &Around::default());
        assert_eq!(json(&from_bin), json(&from_model));
    }

    #[test]
    fn headers_and_sizes_are_checked() {
        let header = |numbers: [i32; 7]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
        let good = [8, 12, 2, 4, 2, -10, 16];
        let parsed = Header::read(&header(good)).expect("reads");
        assert_eq!((parsed.vocab, parsed.tied), (10, false));
        let says = |bytes: &[u8]| match Header::read(bytes) {
            Ok(header) => header.tensors(bytes).expect_err("refused"),
            Err(message) => message,
        };
        assert!(says(&header(good)).contains("asks for"));
        assert!(says(&header(good)[..20]).contains("ends inside"));
        assert!(says(&header([8, 12, 2, 3, 2, 10, 16])).contains("no llama2.c model"));
        assert!(says(&header([8, 0, 2, 4, 2, 10, 16])).contains("number 1"));
        let mut quantised = MAGIC.to_le_bytes().to_vec();
        quantised.extend(2i32.to_le_bytes());
        assert!(says(&quantised).contains("quantised"));
    }

    #[test]
    fn pairs_become_halves() {
        // Two heads of four rows, a byte each.
        assert_eq!(halves(&[0, 1, 2, 3, 4, 5, 6, 7], 2, 4, 1), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
