//! What a reward model reads as token ids, and where each step's score is read.
//!
//! Two sources give the same [`Layout`]: rows in TRL's shape, tokenised as TRL does, and the pieces of a
//! [`sipf_plugin::RewardModel`].

use std::ops::Range;

use sipf_plugin::{Marker, Piece, RewardCard};

use crate::model::Tokenizer;
use crate::{Error, Result};

/// Token ids and read positions of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The ids.
    pub ids: Vec<u32>,
    /// Where each step's score is read, in order.
    pub reads: Vec<usize>,
    /// The tokens of each step: its text and what marks its end.
    pub spans: Vec<Range<usize>>,
    /// Where the prompt ends.
    pub prompt: usize,
}

impl Layout {
    /// Cuts to so many tokens; steps whose score is read beyond lose it. Returns how many did.
    pub fn truncate(&mut self, most: usize) -> usize {
        self.ids.truncate(most);
        let kept = self.reads.iter().filter(|read| **read < most).count();
        let lost = self.reads.len() - kept;
        self.reads.truncate(kept);
        self.spans.truncate(kept);
        lost
    }
}

/// TRL's layout: BOS where the tokenizer has one, the prompt, then every step and the separator, each tokenised on its
/// own without special tokens; a score is read at the separator's last token. Nothing stands between the prompt and
/// the first step.
///
/// # Errors
/// When the separator has no token.
pub fn trl(tokenizer: &Tokenizer, prompt: &str, steps: &[&str], separator: &str) -> Result<Layout> {
    let separator_ids = tokenizer.encode(separator, false)?;
    if separator_ids.is_empty() {
        return Err(Error::unusable(format!("the step separator {separator:?} has no token")));
    }
    let mut layout = Layout { ids: tokenizer.bos().into_iter().collect(), ..Layout::default() };
    layout.ids.extend(tokenizer.encode(prompt, false)?);
    layout.prompt = layout.ids.len();
    for step in steps {
        let start = layout.ids.len();
        layout.ids.extend(tokenizer.encode(step, false)?);
        layout.ids.extend_from_slice(&separator_ids);
        layout.reads.push(layout.ids.len() - 1);
        layout.spans.push(start..layout.ids.len());
    }
    Ok(layout)
}

/// The layout that a reward model's pieces ask for.
///
/// # Errors
/// When the marker is no token of the vocabulary, or there is not exactly one place to read for each step.
pub fn of_pieces(tokenizer: &Tokenizer, card: &RewardCard, pieces: &[Piece], steps: usize) -> Result<Layout> {
    let marker = marker_ids(tokenizer, &card.marker)?;
    let mut layout = Layout { ids: tokenizer.bos().into_iter().collect(), ..Layout::default() };
    let mut ends = Vec::new();
    if pieces.iter().any(|piece| matches!(piece, Piece::Turn { .. })) {
        (layout.ids, ends) = chat(tokenizer, pieces, &marker)?;
    } else if let Marker::Token { token } = &card.marker
        && token.starts_with(SPACE)
    {
        (layout.ids, ends) = whole(tokenizer, pieces, token, &marker)?;
    } else {
        for piece in pieces {
            match piece {
                Piece::Text { text } => layout.ids.extend(tokenizer.encode(text, false)?),
                _ => {
                    layout.ids.extend_from_slice(&marker);
                    ends.push(layout.ids.len() - 1);
                }
            }
        }
    }
    if ends.len() != steps {
        return Err(Error::unusable(format!(
            "{} places to read for {steps} steps: reward model {} does not fit this tokenizer",
            ends.len(),
            card.name
        )));
    }
    layout.prompt = prompt_end(tokenizer, pieces, &layout)?;
    let mut start = layout.prompt;
    for end in ends {
        let read = end as i64 + i64::from(card.offset);
        if read < 0 || read as usize >= layout.ids.len() {
            return Err(Error::unusable(format!("offset {} leads out of the text", card.offset)));
        }
        layout.reads.push(read as usize);
        layout.spans.push(start..end + 1);
        start = end + 1;
    }
    Ok(layout)
}

/// Where the first piece ends, if it is text of its own; a step that shares the first piece begins there too.
fn prompt_end(tokenizer: &Tokenizer, pieces: &[Piece], layout: &Layout) -> Result<usize> {
    let bos = usize::from(tokenizer.bos().is_some());
    Ok(match pieces {
        // The first text is followed by another: it is the prompt alone.
        [Piece::Text { text }, Piece::Text { .. }, ..] => bos + tokenizer.encode(text, false)?.len(),
        _ => bos.min(layout.ids.len()),
    })
}

fn marker_ids(tokenizer: &Tokenizer, marker: &Marker) -> Result<Vec<u32>> {
    let ids = match marker {
        Marker::Pad => tokenizer.pad().or(tokenizer.eos()).into_iter().collect(),
        Marker::Token { token } => tokenizer.id(token).into_iter().collect(),
        Marker::Text { text } => tokenizer.encode(text, false)?,
        _ => Vec::new(),
    };
    match ids.is_empty() {
        false => Ok(ids),
        true => Err(Error::unusable(format!("the tokenizer has no token for the marker {marker:?}"))),
    }
}

/// How SentencePiece vocabularies write a space before a token.
const SPACE: char = '\u{2581}';

/// A marker that carries the space before it: its models were trained on text tokenised as a whole.
fn whole(
    tokenizer: &Tokenizer,
    pieces: &[Piece],
    token: &str,
    marker: &[u32],
) -> Result<(Vec<u32>, Vec<usize>)> {
    let written = token.replace(SPACE, " ");
    let text: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text { text } => text.as_str(),
            _ => &written,
        })
        .collect();
    let mut ids: Vec<u32> = tokenizer.bos().into_iter().collect();
    ids.extend(tokenizer.encode(&text, false)?);
    let ends = (0..ids.len()).filter(|at| ids[..=*at].ends_with(marker)).collect();
    Ok((ids, ends))
}

/// Turns through the chat template; scores are read where the marker's last token stands in an assistant's turn. A
/// user's turn may hold the same token ("3+4").
fn chat(tokenizer: &Tokenizer, pieces: &[Piece], marker: &[u32]) -> Result<(Vec<u32>, Vec<usize>)> {
    let mut messages = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Turn { role, text } => {
                messages.push((role.as_str(), text.as_str()));
            }
            _ => return Err(Error::unusable("a layout has either turns or texts and markers, not both")),
        }
    }
    let tokens = |turns: usize| tokenizer.encode(&tokenizer.chat(&messages[..turns])?, false);
    let ids = tokens(messages.len())?;
    let mut ends = Vec::new();
    for turn in (0..messages.len()).filter(|turn| messages[*turn].0 == "assistant") {
        let shared = |other: Vec<u32>| ids.iter().zip(&other).take_while(|(a, b)| a == b).count();
        let (from, to) = (shared(tokens(turn)?), shared(tokens(turn + 1)?));
        ends.extend((from..to).filter(|at| ids[..=*at].ends_with(marker)));
    }
    Ok((ids, ends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use sipf_plugin::Readout;

    /// Characters as tokens, joined by these merges, spaces written as SentencePiece does.
    fn tokenizer(template: &str, merges: &[(&str, &str)]) -> Tokenizer {
        let mut vocab: Vec<String> =
            ('!'..='~').chain(['\n', SPACE, 'к', 'и']).map(String::from).chain(["<s>".to_owned()]).collect();
        vocab.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
        let ids: serde_json::Map<String, Value> =
            vocab.iter().zip(0..).map(|(token, id)| (token.clone(), id.into())).collect();
        let merges: Vec<String> = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
        let normalizer = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" });
        let model = json!({ "type": "BPE", "vocab": ids, "merges": merges });
        let folder = tempfile::tempdir().expect("a folder");
        let file = json!({ "version": "1.0", "added_tokens": [], "normalizer": normalizer, "model": model });
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).expect("written");
        let config = json!({ "bos_token": "<s>", "chat_template": template });
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).expect("written");
        Tokenizer::load(folder.path()).expect("a tokenizer")
    }

    fn card(token: &str, offset: i32) -> RewardCard {
        RewardCard::process("x")
            .marker(Marker::Token { token: token.into() })
            .readout(Readout::TokenPair { good: "+".into(), bad: "-".into() })
            .offset(offset)
    }

    #[test]
    fn a_plus_in_a_user_s_turn_is_no_place_to_read() {
        let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}<assistant>";
        let tokenizer = tokenizer(template, &[]);
        let pieces = [
            Piece::turn("user", "3+4? 3+4=7"),
            Piece::turn("assistant", "+"),
            Piece::turn("user", "7+1=8"),
            Piece::turn("assistant", "+"),
        ];
        let layout = of_pieces(&tokenizer, &card("+", -1), &pieces, 2).expect("two places");
        let text = tokenizer.decode(&layout.ids).expect("text").replace(' ', "");
        assert_eq!(
            text.replace('\u{2581}', ""),
            "<user>3+4?3+4=7;<assistant>+;<user>7+1=8;<assistant>+;<assistant>"
        );
        let plus = tokenizer.id("+").expect("a token");
        for read in &layout.reads {
            assert_eq!(layout.ids[read + 1], plus, "read one before the assistant's +");
            assert_eq!(layout.ids[*read], tokenizer.id(">").expect("a token"));
        }
    }

    #[test]
    fn a_tag_with_its_space_is_found_in_text_tokenised_as_a_whole() {
        let merges = [("\u{2581}", "к"), ("\u{2581}к", "и")];
        let tokenizer = tokenizer("", &merges);
        let pieces = [Piece::text("Q Step 1: a"), Piece::Marker, Piece::text("\nStep 2: b"), Piece::Marker];
        let layout = of_pieces(&tokenizer, &card("\u{2581}ки", 0), &pieces, 2).expect("two places");
        let tag = tokenizer.id("\u{2581}ки").expect("a token");
        let bos = usize::from(tokenizer.bos().is_some());
        assert_eq!(layout.ids[bos..], tokenizer.encode("Q Step 1: a ки\nStep 2: b ки", false).expect("ids"));
        assert!(layout.reads.iter().all(|read| layout.ids[*read] == tag));
        let error =
            of_pieces(&tokenizer, &card("\u{2581}ки", 0), &pieces, 3).expect_err("two for three").to_string();
        assert!(error.contains("2 places to read for 3 steps"), "{error}");
    }
}
