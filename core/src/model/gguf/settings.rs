//! The settings in a GGUF file's metadata, as the `config.json` of the same model.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value as Entry};
use serde_json::{Value, json};

/// Metadata by key, and the architecture that most keys begin with.
pub(super) struct Metadata<'a> {
    entries: &'a HashMap<String, Entry>,
    /// `general.architecture`.
    pub(super) arch: &'a str,
    /// Rows of the embedding.
    vocab: usize,
    tensors: &'a HashMap<String, TensorInfo>,
}

/// Settings of an architecture that change the arithmetic and are not computed, with the value at which they do not.
const REFUSED: [(&str, f64); 13] = [
    ("attention.scale", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attention.causal", 1.0),
    ("attention.temperature_length", 0.0),
    ("rope.scale_linear", 1.0),
    ("rope.scaling.attn_factor", 1.0),
    ("embedding_scale", 0.0),
    ("logit_scale", 0.0),
    ("residual_scale", 0.0),
    ("router_logit_softcapping", 0.0),
    ("use_parallel_residual", 0.0),
    ("expert_shared_count", 0.0),
];

impl<'a> Metadata<'a> {
    pub(super) fn of(content: &'a Content) -> Result<Self, String> {
        let arch = match content.metadata.get("general.architecture") {
            Some(Entry::String(arch)) => arch.as_str(),
            _ => return Err("general.architecture is missing".into()),
        };
        let embedding =
            content.tensor_infos.get("token_embd.weight").ok_or("tensor token_embd.weight is missing")?;
        Ok(Self {
            entries: &content.metadata,
            arch,
            vocab: embedding.shape.dims().first().copied().unwrap_or(0),
            tensors: &content.tensor_infos,
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Entry::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(|entry| entry.to_bool().ok())
    }

    pub(super) fn list(&self, key: &str) -> Result<&[Entry], String> {
        match self.get(key) {
            Some(Entry::Array(list)) => Ok(list),
            _ => Err(format!("{key} is missing or no list")),
        }
    }

    /// A whole number, whatever its width.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        let entry = self.get(key)?;
        entry.to_u64().ok().or_else(|| match entry {
            Entry::I8(n) => u64::try_from(*n).ok(),
            Entry::I16(n) => u64::try_from(*n).ok(),
            Entry::I32(n) => u64::try_from(*n).ok(),
            Entry::I64(n) => u64::try_from(*n).ok(),
            _ => None,
        })
    }

    fn number(&self, key: &str) -> Option<f64> {
        match self.get(key) {
            // In the digits that a person would write: 1e-5, not 9.999999747378752e-6.
            Some(Entry::F32(n)) => n.to_string().parse().ok(),
            Some(Entry::F64(n)) => Some(*n),
            Some(Entry::Bool(flag)) => Some(f64::from(u8::from(*flag))),
            Some(_) => self.count(key).map(|n| n as f64),
            None => None,
        }
    }

    /// Refuses settings that the decoder does not compute.
    fn refuse(&self, head_dim: u64) -> Result<(), String> {
        for (name, off) in REFUSED {
            let key = format!("{}.{name}", self.arch);
            if let Some(entry) = self.get(&key)
                && self.number(&key) != Some(off)
            {
                return Err(format!("{key} is {entry:?}, which this decoder does not compute"));
            }
        }
        let key = format!("{}.rope.dimension_count", self.arch);
        match self.count(&key) {
            Some(rotated) if rotated != head_dim => Err(format!(
                "{key} is {rotated} of a head of {head_dim}: partly rotated heads are not computed here"
            )),
            _ => Ok(()),
        }
    }

    /// The window of a Llama's layers, which is then a Mistral; Gemma 2 has one on every other layer. Of any other
    /// architecture the file does not say which layers have it.
    fn window(&self, context: u64) -> Result<Option<u64>, String> {
        let key = format!("{}.attention.sliding_window", self.arch);
        let window = self.count(&key).filter(|window| *window > 0);
        match (self.arch, window) {
            ("llama" | "gemma2", window) => Ok(window),
            (_, Some(window)) if window < context => Err(format!(
                "{key} is {window}, and the file does not say of which layers; use the original checkpoint"
            )),
            _ => Ok(None),
        }
    }

    /// `config.json`. An unsupported architecture is left to whoever reads that.
    pub(super) fn config(&self) -> Result<Value, String> {
        let key = |name: &str| format!("{}.{name}", self.arch);
        let count = |name: &str| self.count(&key(name));
        let need =
            |name: &str| count(name).ok_or_else(|| format!("{} is missing or no whole number", key(name)));
        let (hidden, heads, layers) =
            (need("embedding_length")?, need("attention.head_count")?, need("block_count")?);
        if !["llama", "qwen2", "qwen3", "gemma", "gemma2"].contains(&self.arch) {
            return Err(format!(
                "general.architecture {:?} is not supported: llama, qwen2, qwen3, gemma, gemma2",
                self.arch
            ));
        }
        let head_dim = count("attention.key_length").unwrap_or(hidden.checked_div(heads).unwrap_or(0));
        self.refuse(head_dim)?;
        let context = count("context_length").unwrap_or(2048);
        let window = self.window(context)?;
        let has = |tensor: &str| self.tensors.contains_key(tensor);
        let mut config = json!({
            "model_type": if self.arch == "llama" && window.is_some() { "mistral" } else { self.arch },
            "vocab_size": self.vocab,
            "hidden_size": hidden,
            "intermediate_size": need("feed_forward_length")?,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": count("attention.head_count_kv").unwrap_or(heads),
            "head_dim": head_dim,
            "max_position_embeddings": context,
            "rms_norm_eps": self.number(&key("attention.layer_norm_rms_epsilon")).unwrap_or(1e-5),
            "rope_theta": self.number(&key("rope.freq_base")).unwrap_or(10_000.0),
            "attention_bias": has("blk.0.attn_q.bias"),
            "mlp_bias": has("blk.0.ffn_up.bias"),
            "tie_word_embeddings": !has("output.weight"),
            "num_local_experts": count("expert_count").unwrap_or(0),
            "bos_token_id": self.count("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.ends(),
            "torch_dtype": "float16",
        });
        match self.text(&key("rope.scaling.type")) {
            None | Some("none") => {}
            Some("linear") => {
                let factor = self.number(&key("rope.scaling.factor"));
                config["rope_scaling"] = json!({ "rope_type": "linear", "factor": factor });
            }
            Some(other) => {
                return Err(format!("{} {other:?} is not supported: linear", key("rope.scaling.type")));
            }
        }
        if let Some(window) = window {
            config["sliding_window"] = json!(window);
        }
        if self.arch == "gemma2" {
            // A file without them means llama.cpp's defaults, which are those of config.json too.
            for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
                if let Some(cap) = self.number(&key(name)) {
                    config[name] = json!(cap);
                }
            }
            // No key holds it; llama.cpp knows the 27B model by its layers as well.
            config["query_pre_attn_scalar"] = json!(if layers == 46 { hidden / heads } else { head_dim });
        }
        Ok(config)
    }

    /// What ends a text, and what ends a turn.
    fn ends(&self) -> Vec<u64> {
        let mut ends: Vec<u64> = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"]
            .into_iter()
            .filter_map(|key| self.count(key))
            .collect();
        ends.dedup();
        ends
    }
}
