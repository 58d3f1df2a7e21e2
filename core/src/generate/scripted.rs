//! A generator for tests: what it writes is a function of the prompt and the stream, without a model.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Completion, Feed, Finish, Generator, Request, Usage};
use crate::model::Tokenizer;
use crate::{Error, Result};

/// Writes what `write(stream key, prompt)` says.
pub(crate) struct Scripted<F> {
    tokenizer: Tokenizer,
    write: F,
    /// Requests of each call.
    pub(crate) calls: Mutex<Vec<usize>>,
}

impl<F: Fn(u64, &str) -> String + Send + Sync> Scripted<F> {
    pub(crate) fn new(write: F) -> Self {
        Self { tokenizer: bytes(), write, calls: Mutex::new(Vec::new()) }
    }

    pub(crate) fn requests(&self) -> usize {
        self.calls.lock().expect("not poisoned").iter().sum()
    }
}

impl<F: Fn(u64, &str) -> String + Send + Sync> Generator for Scripted<F> {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn generate(&self, feed: &mut dyn Feed, stop: &AtomicBool) -> Result<Usage> {
        let mut waiting = Vec::new();
        while let Some(request) = feed.next() {
            waiting.push(request);
        }
        self.calls.lock().expect("not poisoned").push(waiting.len());
        // Last come, first served: callers must not lean on the order.
        for Request { tag, stream, prompt, .. } in waiting.into_iter().rev() {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let text = (self.write)(stream, &self.tokenizer.decode(&prompt)?);
            let ids = self.tokenizer.encode(&text, false)?;
            feed.done(tag, Completion { ids, text, finish: Finish::Eos, logprobs: None })?;
        }
        Ok(Usage::default())
    }
}

/// One token a byte.
fn bytes() -> Tokenizer {
    let mut alphabet: Vec<char> =
        tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocab: serde_json::Map<String, serde_json::Value> =
        alphabet.iter().zip(0..).map(|(letter, id)| (letter.to_string(), id.into())).collect();
    let level = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
    });
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
    });
    Tokenizer::new(json.to_string().parse().expect("a tokenizer"), None, None, None)
}
