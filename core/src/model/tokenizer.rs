//! Text to token ids and back: a Hugging Face `tokenizer.json` with the special tokens of the folder it came from.

use std::path::Path;

use serde_json::Value;

use super::arch::Keys;
use super::load;
use crate::{AtPath, Error, Result};

/// A tokenizer and what its folder says about special tokens and chats.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    chat_template: Option<String>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where there is one, `tokenizer_config.json` of a model folder.
    ///
    /// # Errors
    /// When a file is missing or malformed, or names a special token that the vocabulary lacks.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Err(Error::file(path, format!("not found; {}", load::MADE_OF)));
        }
        let bytes = std::fs::read(&path).at(&path)?;
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| {
            Error::file(&path, format!("not a tokenizer that this program reads: {error}"))
        })?;
        let mut tokenizer = Self { inner, bos: None, eos: None, pad: None, chat_template: None };
        let path = folder.join("tokenizer_config.json");
        if path.is_file() {
            let text = std::fs::read_to_string(&path).at(&path)?;
            let config: Value =
                serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
            tokenizer.bos = tokenizer.special(&path, &config, "bos_token")?;
            tokenizer.eos = tokenizer.special(&path, &config, "eos_token")?;
            tokenizer.pad = tokenizer.special(&path, &config, "pad_token")?;
            tokenizer.chat_template = template(&config);
        }
        let path = folder.join("chat_template.jinja");
        if path.is_file() {
            tokenizer.chat_template = Some(std::fs::read_to_string(&path).at(&path)?);
        }
        tokenizer.fits(folder)?;
        Ok(tokenizer)
    }

    /// Checks that it makes no id that the model of its folder lacks.
    fn fits(&self, folder: &Path) -> Result<()> {
        let path = folder.join("config.json");
        if !path.is_file() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&path).at(&path)?;
        let config: Value =
            serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
        let known = (Keys { source: &config })
            .count_or_none("vocab_size")
            .map_err(|message| Error::file(&path, message))?;
        let made = self.vocab_size();
        match known.filter(|known| made > *known) {
            Some(known) => Err(Error::file(
                folder.join("tokenizer.json"),
                format!(
                    "makes {made} different ids, but vocab_size in config.json is {known}: take the tokenizer of \
                    this model, or a model whose embedding was resized for it"
                ),
            )),
            None => Ok(()),
        }
    }

    /// Wraps a tokenizer that was made in memory.
    pub fn new(inner: tokenizers::Tokenizer, bos: Option<u32>, eos: Option<u32>, pad: Option<u32>) -> Self {
        Self { inner, bos, eos, pad, chat_template: None }
    }

    /// A tokenizer of `vocab` numbered words, for random weights that come without one.
    ///
    /// # Errors
    /// Never in practice: the vocabulary is well-formed.
    pub fn numbered(vocab: usize) -> Result<Self> {
        let words: serde_json::Map<String, Value> =
            (0..vocab).map(|id| (format!("w{id}"), id.into())).collect();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
        });
        let inner = tokenizers::Tokenizer::from_bytes(json.to_string())
            .map_err(|error| Error::unusable(format!("{vocab} numbered words: {error}")))?;
        Ok(Self::new(inner, None, None, None))
    }

    fn special(&self, path: &Path, config: &Value, key: &str) -> Result<Option<u32>> {
        let token = match &config[key] {
            Value::String(token) => token.as_str(),
            Value::Object(token) => token.get("content").and_then(Value::as_str).unwrap_or_default(),
            _ => return Ok(None),
        };
        match self.inner.token_to_id(token) {
            Some(id) => Ok(Some(id)),
            None => Err(Error::file(path, format!("{key} is {token:?}, which tokenizer.json does not hold"))),
        }
    }

    /// Token ids of a text; `special` adds what the tokenizer puts around a text (BOS).
    ///
    /// # Errors
    /// When the tokenizer cannot encode it.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        match self.inner.encode_fast(text, special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(Error::unusable(format!("the tokenizer cannot encode a text: {error}"))),
        }
    }

    /// Text of token ids, without special tokens.
    ///
    /// # Errors
    /// When the decoder of the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.text(ids, true)
    }

    /// Text of token ids, special tokens spelt out.
    ///
    /// # Errors
    /// When the decoder of the tokenizer fails.
    pub fn decode_whole(&self, ids: &[u32]) -> Result<String> {
        self.text(ids, false)
    }

    fn text(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(|error| {
            Error::unusable(format!("the tokenizer cannot decode {} ids: {error}", ids.len()))
        })
    }

    /// Whether a token is a special one, which [`Self::decode`] leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        let token = self.inner.id_to_token(id);
        token.is_some_and(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// Begin-of-sequence id.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// End-of-sequence id.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Padding id.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Number of ids, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Id of a token, exactly as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The chat template, if the folder has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// The wrapped tokenizer.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }
}

fn template(config: &Value) -> Option<String> {
    match &config["chat_template"] {
        Value::String(text) => Some(text.clone()),
        // Several named templates: the one called "default".
        Value::Array(list) => list
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_string),
        _ => None,
    }
}
