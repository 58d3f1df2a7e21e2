//! SentencePiece vocabularies, from a `.model` file or from llama2.c's `tok*.bin`, as a `tokenizer.json`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{AtPath, Error, Result};

/// How SentencePiece writes a space.
const SPACE: &str = "\u{2581}";

/// A token: its text and how early merges make it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    /// Unknown, control and byte tokens are never the result of a merge.
    pub(super) plain: bool,
}

/// Reads either kind of file.
pub(super) fn read(path: &Path) -> Result<Vec<Piece>> {
    let bytes = std::fs::read(path).at(path)?;
    let pieces = match path.extension().is_some_and(|extension| extension == "model") {
        true => read_model(&bytes),
        false => read_llama2c(&bytes),
    };
    match pieces {
        Some(pieces) if pieces.len() > 3 => Ok(pieces),
        Some(pieces) => Err(Error::file(path, format!("holds only {} tokens", pieces.len()))),
        None => Err(Error::file(path, "is cut off or no token file")),
    }
}

/// llama2.c: the longest length, then score, length and bytes of each token.
fn read_llama2c(bytes: &[u8]) -> Option<Vec<Piece>> {
    let mut rest = bytes.get(4..)?;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let score = f32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
        let len = i32::from_le_bytes(rest.get(4..8)?.try_into().ok()?);
        let len = usize::try_from(len).ok()?;
        let text = std::str::from_utf8(rest.get(8..8 + len)?).ok()?;
        rest = &rest[8 + len..];
        // The three special tokens stand between line ends there; everything else has its spaces spelled out.
        let text = match pieces.len() {
            0..3 => text.trim_matches('\n').to_string(),
            _ => text.replace(' ', SPACE),
        };
        let plain = pieces.len() >= 3 && byte(&text).is_none();
        pieces.push(Piece { text, score, plain });
    }
    Some(pieces)
}

/// The byte that `<0x0A>` stands for.
fn byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// A protocol buffer whose field 1 is repeated `{1: text, 2: score, 3: kind}`.
fn read_model(bytes: &[u8]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    for field in Fields(bytes) {
        let (1, Field::Bytes(body)) = field? else { continue };
        let (mut text, mut score, mut kind) = (None, 0.0, 1);
        for field in Fields(body) {
            match field? {
                (1, Field::Bytes(bytes)) => text = Some(std::str::from_utf8(bytes).ok()?.to_string()),
                (2, Field::Four(four)) => score = f32::from_le_bytes(four),
                (3, Field::Number(number)) => kind = number,
                _ => {}
            }
        }
        pieces.push(Piece { text: text?, score, plain: kind == 1 });
    }
    Some(pieces)
}

enum Field<'a> {
    Number(u64),
    Four([u8; 4]),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message; `None` where it is malformed, which ends it.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, many: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(many)?;
        self.0 = rest;
        Some(head)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => self.take(8).map(|_| Field::Other)?,
            2 => {
                let many = usize::try_from(self.number()?).ok()?;
                Field::Bytes(self.take(many)?)
            }
            5 => Field::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Every split of a token into two others is a merge; better tokens first, as Hugging Face's conversion has it.
fn merges(pieces: &[Piece]) -> Vec<[&str; 2]> {
    let ids: HashMap<&str, usize> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.text.as_str(), id)).collect();
    let mut merges = Vec::new();
    for piece in pieces.iter().filter(|piece| piece.plain) {
        for (at, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                merges.push((piece.score, *l, *r, [left, right]));
            }
        }
    }
    let key = |m: &(f32, usize, usize, [&str; 2])| (m.3[0].chars().count(), m.3[1].chars().count());
    merges.sort_by(|a, b| {
        b.0.total_cmp(&a.0).then_with(|| key(b).cmp(&key(a))).then((a.1, a.2).cmp(&(b.1, b.2)))
    });
    merges.into_iter().map(|merge| merge.3).collect()
}

/// What a tokenizer puts around a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    /// Id of the unknown token.
    pub(super) unknown: usize,
    /// Id of the token in front of every text.
    pub(super) bos: Option<usize>,
    /// Whether a text begins with a space.
    pub(super) space: bool,
}

impl Default for Around {
    /// As Llama has it.
    fn default() -> Self {
        Self { unknown: 0, bos: Some(1), space: true }
    }
}

/// The post-processor that puts a token in front of every text.
pub(super) fn begin(bos: &str, id: u64) -> Value {
    let token = json!({"SpecialToken": {"id": bos, "type_id": 0}});
    let sequence = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    json!({"type": "TemplateProcessing",
        "single": [token, sequence("A", 0)],
        "pair": [token, sequence("A", 0), token, sequence("B", 1)],
        "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}}})
}

/// The whole `tokenizer.json`: BPE with byte fallback; the first three tokens are special.
pub(super) fn tokenizer_json(pieces: &[Piece], around: &Around) -> Value {
    let vocab: Map<String, Value> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), id.into())).collect();
    let special: Vec<Value> = pieces[..3]
        .iter()
        .enumerate()
        .map(|(id, piece)| {
            json!({"id": id, "content": piece.text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if around.space {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let normalizer = match around.space {
        true => json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, spaces]}),
        false => spaces,
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": special,
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "post_processor": around.bos.map(|bos| begin(&pieces[bos].text, bos as u64)),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "dropout": null, "unk_token": pieces[around.unknown].text, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": merges(pieces)},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_off_files_are_refused() {
        let mut good = 7i32.to_le_bytes().to_vec();
        for text in ["<unk>", "\n<s>\n", "\n</s>\n", "<0x00>", " a", "a", " "] {
            good.extend(0f32.to_le_bytes());
            good.extend((text.len() as i32).to_le_bytes());
            good.extend(text.as_bytes());
        }
        let pieces = read_llama2c(&good).expect("reads");
        let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(texts, ["<unk>", "<s>", "</s>", "<0x00>", "▁a", "a", "▁"]);
        assert!(!pieces[3].plain && pieces[4].plain);
        assert_eq!(merges(&pieces), [["▁", "a"]]);
        for cut in [good.len() - 1, good.len() - 5, 2] {
            assert!(read_llama2c(&good[..cut]).is_none(), "{cut}");
        }
        // Field 1, 200 bytes announced, 2 there; then a number that never ends.
        assert!(read_model(&[0x0a, 0xc8, 0x01, 1, 2]).is_none());
        assert!(read_model(&[0x80; 11]).is_none());
    }
}
