//! The vocabulary in a GGUF file's metadata, as `tokenizer.json` and `tokenizer_config.json`.

use candle_core::quantized::gguf_file::Value as Entry;
use serde_json::{Map, Value, json};

use super::settings::Metadata;
use crate::model::sentencepiece::{self, Piece};

/// `tokenizer.ggml.token_type`: an ordinary token.
const NORMAL: u64 = 1;
/// Never part of a text.
const CONTROL: u64 = 3;
/// Added by somebody, found in texts before anything is split.
const ADDED: u64 = 4;

/// How Llama 3 splits a text.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Qwen2 and Qwen3 split a text: digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<u64>,
}

impl<'a> Vocabulary<'a> {
    fn of(metadata: &'a Metadata<'_>) -> Result<Self, String> {
        let texts = metadata.list("tokenizer.ggml.tokens")?.iter().map(|entry| match entry {
            Entry::String(text) => Ok(text.as_str()),
            other => Err(format!("tokenizer.ggml.tokens holds {other:?}, no text")),
        });
        let tokens: Vec<&str> = texts.collect::<Result<_, _>>()?;
        let kinds = match metadata.list("tokenizer.ggml.token_type") {
            Ok(list) => list
                .iter()
                .map(|entry| entry.to_i32().map_or(NORMAL, |kind| u64::try_from(kind).unwrap_or(NORMAL)))
                .collect(),
            Err(_) => vec![NORMAL; tokens.len()],
        };
        match kinds.len() == tokens.len() {
            true => Ok(Self { tokens, kinds }),
            false => Err(format!("{} tokens have {} types", tokens.len(), kinds.len())),
        }
    }

    /// Control tokens and added ones, as `tokenizer.json` lists them.
    fn added(&self) -> Vec<Value> {
        self.tokens
            .iter()
            .zip(&self.kinds)
            .enumerate()
            .filter(|(_, (_, kind))| matches!(**kind, CONTROL | ADDED))
            .map(|(id, (text, kind))| {
                json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": *kind == CONTROL})
            })
            .collect()
    }

    fn name(&self, id: Option<u64>) -> Option<&'a str> {
        self.tokens.get(usize::try_from(id?).ok()?).copied()
    }
}

/// `tokenizer.json`.
pub(super) fn tokenizer(metadata: &Metadata<'_>) -> Result<Value, String> {
    let vocabulary = Vocabulary::of(metadata)?;
    let mut tokenizer = match metadata.text("tokenizer.ggml.model") {
        Some("llama") => sentence_pieces(metadata, &vocabulary)?,
        Some("gpt2") => byte_pairs(metadata, &vocabulary)?,
        other => {
            return Err(format!(
                "tokenizer.ggml.model is {}; llama and gpt2 are read: put the model's tokenizer.json beside the file",
                other.unwrap_or("missing")
            ));
        }
    };
    tokenizer["added_tokens"] = json!(vocabulary.added());
    Ok(tokenizer)
}

fn sentence_pieces(metadata: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<Value, String> {
    let scores = metadata.list("tokenizer.ggml.scores")?;
    let pieces: Vec<Piece> = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.kinds)
        .zip(scores)
        .map(|((text, kind), score)| Piece {
            text: (*text).to_owned(),
            score: score.to_f32().unwrap_or(0.0),
            plain: *kind == NORMAL,
        })
        .collect();
    if pieces.len() != vocabulary.tokens.len() || pieces.len() < 4 {
        return Err(format!("{} tokens have {} scores", vocabulary.tokens.len(), scores.len()));
    }
    let id = |key: &str| {
        metadata.count(key).and_then(|id| usize::try_from(id).ok()).filter(|id| *id < pieces.len())
    };
    let around = sentencepiece::Around {
        unknown: id("tokenizer.ggml.unknown_token_id").unwrap_or(0),
        bos: id("tokenizer.ggml.bos_token_id")
            .filter(|_| metadata.flag("tokenizer.ggml.add_bos_token").unwrap_or(true)),
        space: metadata.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true),
    };
    Ok(sentencepiece::tokenizer_json(&pieces, &around))
}

fn byte_pairs(metadata: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<Value, String> {
    let split = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
    };
    let pre = metadata.text("tokenizer.ggml.pre").unwrap_or("missing");
    let (pre_tokenizer, normalizer, whole) = match pre {
        "llama-bpe" => (split(LLAMA3), Value::Null, true),
        "qwen2" => (split(QWEN2), json!({"type": "NFC"}), false),
        "gpt-2" => {
            let plain = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
            (plain, Value::Null, false)
        }
        other => {
            return Err(format!(
                "tokenizer.ggml.pre is {other}; llama-bpe, qwen2 and gpt-2 are read: put the model's tokenizer.json beside the file"
            ));
        }
    };
    let vocab: Map<String, Value> =
        vocabulary.tokens.iter().enumerate().map(|(id, text)| ((*text).to_owned(), id.into())).collect();
    let merges: Vec<Value> = metadata
        .list("tokenizer.ggml.merges")?
        .iter()
        .map(|entry| match entry {
            Entry::String(merge) => Ok(json!(merge)),
            other => Err(format!("tokenizer.ggml.merges holds {other:?}, no text")),
        })
        .collect::<Result<_, _>>()?;
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let bos = metadata.count("tokenizer.ggml.bos_token_id");
    let post_processor = match vocabulary.name(bos) {
        Some(name) if metadata.flag("tokenizer.ggml.add_bos_token").unwrap_or(false) => {
            sentencepiece::begin(name, bos.unwrap_or_default())
        }
        _ => byte_level.clone(),
    };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole,
            "vocab": vocab, "merges": merges},
    }))
}

/// `tokenizer_config.json`.
pub(super) fn special_tokens(metadata: &Metadata<'_>) -> Result<Value, String> {
    let vocabulary = Vocabulary::of(metadata)?;
    let mut config = Map::new();
    for (key, name) in [
        ("bos_token", "tokenizer.ggml.bos_token_id"),
        ("eos_token", "tokenizer.ggml.eos_token_id"),
        ("pad_token", "tokenizer.ggml.padding_token_id"),
    ] {
        if let Some(token) = vocabulary.name(metadata.count(name)) {
            config.insert(key.into(), token.into());
        }
    }
    if let Some(template) = metadata.text("tokenizer.chat_template") {
        config.insert("chat_template".into(), template.into());
    }
    Ok(Value::Object(config))
}
