//! Where a completion ends: end-of-sequence ids, and stop strings over text that is still being written.

use std::path::Path;

use serde_json::Value;

use super::request::Sampling;
use crate::model::Tokenizer;
use crate::model::arch::Keys;
use crate::{AtPath, Error, Result};

/// Tokens of the prompt that are decoded along with a completion, so that its first space is not lost.
const CONTEXT: usize = 6;

/// Ids that end a sequence: `generation_config.json`, else `config.json`, and what the tokenizer calls EOS.
///
/// # Errors
/// When one of the files is there and cannot be read.
pub fn eos_ids(folder: &Path, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&path).at(&path)?;
        let config: Value =
            serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
        let ids = (Keys { source: &config }).eos().map_err(|message| Error::file(&path, message))?;
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    Ok(tokenizer.eos().into_iter().collect())
}

/// The text of new tokens as it continues the prompt.
pub(super) fn continuation(tokenizer: &Tokenizer, prompt: &[u32], new: &[u32]) -> Result<String> {
    let context = &prompt[prompt.len().saturating_sub(CONTEXT)..];
    let before = tokenizer.decode(context)?;
    let both = tokenizer.decode(&[context, new].concat())?;
    match both.strip_prefix(before.as_str()) {
        Some(text) => Ok(text.to_string()),
        // A character straddles the border, or the tokenizer rewrites what it has written: the new tokens alone.
        None => tokenizer.decode(new),
    }
}

/// The ASCII characters in the text of each token, found out when it is first drawn: bit c stands for character c.
///
/// Most tokens cannot complete a stop string, and then nothing needs to be decoded.
#[derive(Debug, Default)]
pub(super) struct Letters(Vec<Option<u128>>);

impl Letters {
    /// Whether one of the stop strings can end inside this token.
    pub(super) fn may_end(&mut self, tokenizer: &Tokenizer, stops: &[String], token: u32) -> Result<bool> {
        for stop in stops {
            match stop.as_bytes().last() {
                // A decoder may strip a space from a token that stands alone, and other characters may be cut in two.
                Some(last) if last.is_ascii() && *last != b' ' => {
                    if self.of(tokenizer, token)? & (1 << last) != 0 {
                        return Ok(true);
                    }
                }
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    fn of(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<u128> {
        let at = token as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        if let Some(letters) = self.0[at] {
            return Ok(letters);
        }
        let text = tokenizer.decode_whole(&[token])?;
        let letters = text.bytes().filter(u8::is_ascii).fold(0u128, |all, byte| all | 1 << byte);
        self.0[at] = Some(letters);
        Ok(letters)
    }
}

/// New tokens with special ones spelt out, up to the first stop string there, as the text without special tokens; `None`
/// where there is no stop string.
fn among_special(
    tokenizer: &Tokenizer,
    stops: &[String],
    prompt: &[u32],
    new: &[u32],
) -> Result<Option<String>> {
    let spelt = |new: &[u32]| -> Result<String> {
        let context = &prompt[prompt.len().saturating_sub(CONTEXT)..];
        let before = tokenizer.decode_whole(context)?;
        let both = tokenizer.decode_whole(&[context, new].concat())?;
        both.strip_prefix(before.as_str())
            .map_or_else(|| tokenizer.decode_whole(new), |text| Ok(text.to_owned()))
    };
    let text = spelt(new)?;
    let Some(at) = first(&text, stops) else { return Ok(None) };
    // The tokens that lie before it whole, and of the next one what it has of the text.
    let (mut whole, mut end, mut half) = (0, 0, 0);
    while whole < new.len() {
        let next = spelt(&new[..=whole])?;
        let kept = next.trim_end_matches('\u{fffd}').len();
        if kept > at {
            break;
        }
        (whole, end, half) = (whole + 1, kept, next.len() - kept);
    }
    let mut plain = continuation(tokenizer, prompt, &new[..whole])?;
    if new.get(whole).is_some_and(|token| !tokenizer.is_special(*token)) {
        // What was half a character is in what follows, whole or not.
        for _ in 0..half / '\u{fffd}'.len_utf8() {
            plain.pop();
        }
        plain.push_str(text.get(end..at).unwrap_or_default());
    }
    Ok(Some(plain))
}

/// Looks for stop strings in a completion. It need not be shown every token, only those that may end one.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Text of the tokens before `read`.
    text: String,
    /// Tokens from `prefix` on are decoded together, those before `read` to be cut off again.
    prefix: usize,
    read: usize,
    /// Whether a special token was written, and up to where that is known.
    special: bool,
    looked: usize,
}

impl Scanner {
    /// `all` is the prompt and the new tokens up to now; returns the text up to the first stop string, if there is one.
    pub(super) fn push(
        &mut self,
        tokenizer: &Tokenizer,
        sampling: &Sampling,
        all: &[u32],
        prompt: usize,
    ) -> Result<Option<String>> {
        if sampling.stop.is_empty() {
            return Ok(None);
        }
        if self.read == 0 {
            self.prefix = prompt.saturating_sub(CONTEXT);
            self.read = prompt;
            self.looked = prompt;
        }
        // Text without special tokens goes first: what it ends is cut as if there were none.
        if let Some(text) = self.plain(tokenizer, sampling, all, prompt)? {
            return Ok(Some(text));
        }
        self.special |= all[self.looked..].iter().any(|token| tokenizer.is_special(*token));
        self.looked = all.len();
        match self.special {
            true => among_special(tokenizer, &sampling.stop, &all[..prompt], &all[prompt..]),
            false => Ok(None),
        }
    }

    fn plain(
        &mut self,
        tokenizer: &Tokenizer,
        sampling: &Sampling,
        all: &[u32],
        prompt: usize,
    ) -> Result<Option<String>> {
        let before = tokenizer.decode(&all[self.prefix..self.read])?;
        let both = tokenizer.decode(&all[self.prefix..])?;
        // Half a character at the end: wait for the rest. A stop string may end before it, so look at what is whole.
        let whole = both.trim_end_matches('\u{fffd}');
        let Some(piece) = whole.strip_prefix(before.as_str()) else {
            // The prompt ends inside a character: look at the whole text, which is slow but rare.
            let text = continuation(tokenizer, &all[..prompt], &all[prompt..])?;
            return Ok(first(&text, &sampling.stop).map(|at| text[..at].to_string()));
        };
        let longest = sampling.stop.iter().map(String::len).max().unwrap_or(0);
        let mut from = self.text.len().saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        let kept = self.text.len();
        self.text.push_str(piece);
        let hit = sampling.stop.iter().any(|stop| self.text[from..].contains(stop.as_str()));
        if hit {
            let text = continuation(tokenizer, &all[..prompt], &all[prompt..])?;
            let text = if first(&text, &sampling.stop).is_some() { text } else { self.text.clone() };
            let at = first(&text, &sampling.stop).unwrap_or(text.len());
            return Ok(Some(text[..at].to_string()));
        }
        if whole.len() == both.len() {
            self.prefix = self.read;
            self.read = all.len();
        } else {
            self.text.truncate(kept);
        }
        Ok(None)
    }
}

/// Where the first stop string begins.
fn first(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte-level tokens, one a byte, a few longer ones, and 258, which is special.
    fn tokenizer() -> Tokenizer {
        let mut vocab = serde_json::Map::new();
        let mut alphabet: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        for (id, letter) in alphabet.iter().enumerate() {
            vocab.insert(letter.to_string(), id.into());
        }
        vocab.insert("Qu".into(), 256.into());
        vocab.insert("estion:x".into(), 257.into());
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [{"id": 258, "content": "<|im_end|>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
        });
        let inner = json.to_string().parse().expect("a tokenizer");
        Tokenizer::new(inner, None, None, None)
    }

    fn run(stops: &[&str], prompt: &[u32], new: &[u32]) -> Option<(usize, String)> {
        let tokenizer = tokenizer();
        let sampling =
            Sampling { stop: stops.iter().map(|s| s.to_string()).collect(), ..Sampling::default() };
        let (mut scanner, mut letters) = (Scanner::default(), Letters::default());
        let mut all = prompt.to_vec();
        for (n, id) in new.iter().enumerate() {
            all.push(*id);
            if !letters.may_end(&tokenizer, &sampling.stop, *id).expect("decodes") {
                continue;
            }
            if let Some(text) = scanner.push(&tokenizer, &sampling, &all, prompt.len()).expect("decodes") {
                return Some((n + 1, text));
            }
        }
        None
    }

    #[test]
    fn a_stop_string_across_tokens_cuts_exactly() {
        let t = tokenizer();
        let mut ids = t.encode("fine. ", false).expect("encodes");
        ids.extend([256, 257]);
        ids.extend(t.encode("never seen", false).expect("encodes"));
        let prompt = t.encode("Question: 1", false).expect("encodes");
        assert_eq!(run(&["Question:"], &prompt, &ids), Some((8, "fine. ".to_string())));
        assert_eq!(run(&["Answer:"], &prompt, &ids), None, "the prompt is not searched");
        assert_eq!(run(&["Question:", "ne. Q"], &prompt, &ids), Some((7, "fi".to_string())));
    }

    #[test]
    fn a_stop_string_may_be_a_special_token_or_lie_about_one() {
        let t = tokenizer();
        let ids = |text: &str| t.encode(text, false).expect("encodes");
        let new = [ids("ab→"), vec![258], ids("cd"), vec![258], ids("\ne")].concat();
        assert_eq!(run(&["<|im_end|>"], &ids("<|im_end|>x"), &new), Some((6, "ab→".to_string())));
        assert_eq!(run(&["<|im_end|>\n"], &[], &new), Some((10, "ab→cd".to_string())));
        assert_eq!(run(&["b→<|im"], &[], &new), Some((6, "a".to_string())));
        assert_eq!(run(&["im_end|>c"], &[], &new), Some((7, "ab→".to_string())));
        assert_eq!(run(&["cd"], &[], &new), Some((8, "ab→".to_string())));
        assert_eq!(run(&["tion:"], &[], &[258, 257]), Some((2, "es".to_string())));
        assert_eq!(run(&["<|im_start|>"], &[], &new), None);
        let half = [vec![258], ids("→")[..1].to_vec(), ids("xyz")].concat();
        assert_eq!(
            run(&["yz"], &[], &half),
            Some((5, "\u{fffd}x".to_string())),
            "half a character stays one"
        );
    }

    #[test]
    fn tokens_that_cannot_end_a_stop_string_are_not_decoded() {
        let (t, mut letters) = (tokenizer(), Letters::default());
        let stops = |stops: &[&str]| stops.iter().map(|stop| stop.to_string()).collect::<Vec<_>>();
        let id = |text: &str| t.encode(text, false).expect("encodes")[0];
        let mut may_end = |stop: &[&str], id| letters.may_end(&t, &stops(stop), id).expect("decodes");
        assert!(may_end(&["Question:"], 257), "the colon is inside the token");
        assert!(!may_end(&["Question:"], 256) && !may_end(&["Question:"], id("\n")));
        assert!(may_end(&["a", "b\n"], id("\n")));
        assert!(may_end(&["stop "], 256) && may_end(&["→"], 256), "these cannot be told from one token");
        assert!(!may_end(&[], 257));
    }

    #[test]
    fn characters_of_several_tokens_are_waited_for() {
        let t = tokenizer();
        let ids = t.encode("a→b→→c", false).expect("encodes");
        assert_eq!(ids.len(), 12, "one token a byte");
        assert_eq!(run(&["→→"], &[], &ids), Some((11, "a→b".to_string())));
        assert_eq!(run(&["b"], &[], &ids), Some((5, "a→".to_string())));
        assert_eq!(run(&["c"], &ids[..3], &ids[3..]), Some((9, "\u{fffd}b→→".to_string())));
    }
}
