//! Rows to train on, from JSONL, JSON or Parquet in TRL's shapes: plain text, or conversations where the tokenizer has a
//! chat template.

use std::path::Path;

use serde_json::Value;
use sipf_plugin::DataFormat;

use super::BadRows;
use crate::model::Tokenizer;
use crate::{Error, Result, dataset};

/// A row for SFT: `{prompt, completion}`, `{text}` or `{messages}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SftRow {
    /// What is given; empty for `{text}` and `{messages}`.
    pub prompt: String,
    /// What is learned.
    pub completion: String,
    /// Whether a chat template wrote the texts, special tokens included.
    pub chat: bool,
    /// File and line.
    pub place: String,
}

/// A preference pair: `{prompt, chosen, rejected}`, or `{chosen, rejected}` that share their beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreferenceRow {
    /// What is given.
    pub prompt: String,
    /// The better completion.
    pub chosen: String,
    /// The worse completion.
    pub rejected: String,
    /// Whether a chat template wrote the texts, special tokens included.
    pub chat: bool,
    /// File and line.
    pub place: String,
}

/// The format that a file's name says; JSONL where it says nothing.
pub(crate) fn format_of(path: &Path) -> DataFormat {
    match path.extension().and_then(|end| end.to_str()) {
        Some("parquet") => DataFormat::Parquet,
        Some("json") => DataFormat::Json,
        _ => DataFormat::Jsonl,
    }
}

/// The text under a key of a row; `line` counts from 1.
///
/// # Errors
/// Names file, line and key.
pub(crate) fn text<'a>(row: &'a Value, key: &str, path: &Path, line: usize) -> Result<&'a str> {
    row.get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| Error::row(path, line, format!("key {key:?} is missing or not text")))
}

/// Rows of a file, each made by `make(place, line, keys)`.
fn read<T>(
    path: &Path,
    bad: &mut BadRows,
    make: impl Fn(String, usize, &Value) -> Result<T>,
) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    dataset::read_rows_with(path, format_of(path), &mut |line, row| {
        let made = row.and_then(|row| make(format!("{}, line {line}", path.display()), line, &row));
        rows.extend(bad.sift(made)?);
        Ok(true)
    })?;
    Ok(rows)
}

impl SftRow {
    /// The rows of a file. Conversations need the tokenizer, for its chat template.
    ///
    /// # Errors
    /// Names file, line and key of the first bad row, where `bad` stops at it.
    pub fn read(path: &Path, tokenizer: &Tokenizer, bad: &mut BadRows) -> Result<Vec<Self>> {
        read(path, bad, |place, line, row| Self::of(row, tokenizer, path, line, place))
    }

    fn of(row: &Value, tokenizer: &Tokenizer, path: &Path, line: usize, place: String) -> Result<Self> {
        let at = |error: Error| Error::row(path, line, error.to_string());
        if let Some(text) = row.get("text").and_then(Value::as_str) {
            return Ok(Self { completion: text.into(), place, ..Self::default() });
        }
        if let Some(messages) = row.get("messages") {
            let completion = tokenizer.render(&turns(messages).map_err(at)?, false).map_err(at)?;
            return Ok(Self { completion, chat: true, place, ..Self::default() });
        }
        if row.get("chosen").is_some() {
            // The better half of a preference pair.
            let pair = PreferenceRow::of(row, tokenizer, path, line, place)?;
            return Ok(pair.into_chosen());
        }
        match row.get("prompt") {
            Some(prompt @ Value::Array(_)) => {
                let completion = row.get("completion").unwrap_or(&Value::Null);
                let (prompt, [completion]) = conversation(tokenizer, prompt, [completion]).map_err(at)?;
                Ok(Self { prompt, completion, chat: true, place })
            }
            _ => {
                let text = |key: &str| text(row, key, path, line).map(str::to_owned);
                Ok(Self { prompt: text("prompt")?, completion: text("completion")?, chat: false, place })
            }
        }
    }
}

impl PreferenceRow {
    /// The rows of a file. Conversations need the tokenizer, for its chat template.
    ///
    /// # Errors
    /// Names file, line and key of the first bad row, where `bad` stops at it.
    pub fn read(path: &Path, tokenizer: &Tokenizer, bad: &mut BadRows) -> Result<Vec<Self>> {
        read(path, bad, |place, line, row| Self::of(row, tokenizer, path, line, place))
    }

    /// Its better half, to imitate.
    pub fn into_chosen(self) -> SftRow {
        SftRow { prompt: self.prompt, completion: self.chosen, chat: self.chat, place: self.place }
    }

    fn of(row: &Value, tokenizer: &Tokenizer, path: &Path, line: usize, place: String) -> Result<Self> {
        let at = |error: Error| Error::row(path, line, error.to_string());
        let part =
            |key: &str| row.get(key).ok_or_else(|| Error::row(path, line, format!("key {key:?} is missing")));
        let (chosen, rejected) = (part("chosen")?, part("rejected")?);
        if let (Value::Array(a), Value::Array(b)) = (chosen, rejected) {
            let (prompt, chosen, rejected) = match row.get("prompt") {
                Some(prompt) => (prompt.clone(), chosen.clone(), rejected.clone()),
                None => {
                    let shared = shared_beginning(a, b, |_| false);
                    let part = |list: &[Value]| Value::Array(list.to_vec());
                    (part(&a[..shared]), part(&a[shared..]), part(&b[shared..]))
                }
            };
            let (prompt, [chosen, rejected]) =
                conversation(tokenizer, &prompt, [&chosen, &rejected]).map_err(at)?;
            return Ok(Self { prompt, chosen, rejected, chat: true, place });
        }
        let chosen = text(row, "chosen", path, line)?;
        let rejected = text(row, "rejected", path, line)?;
        if row.get("prompt").is_some() {
            let prompt = text(row, "prompt", path, line)?.to_owned();
            return Ok(Self { prompt, chosen: chosen.into(), rejected: rejected.into(), chat: false, place });
        }
        let (a, b): (Vec<char>, Vec<char>) = (chosen.chars().collect(), rejected.chars().collect());
        let shared = shared_beginning(&a, &b, |before| *before == ' ');
        let part = |list: &[char]| list.iter().collect::<String>();
        Ok(Self {
            prompt: part(&a[..shared]),
            chosen: part(&a[shared..]),
            rejected: part(&b[shared..]),
            chat: false,
            place,
        })
    }
}

/// How much two sequences share, as TRL's `extract_prompt` counts it: one less where the last shared item is to be left
/// to the completions, and never all of the shorter one.
fn shared_beginning<T: PartialEq>(a: &[T], b: &[T], leave: impl Fn(&T) -> bool) -> usize {
    let most = a.len().min(b.len()).saturating_sub(1);
    let shared = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    match shared {
        0 => 0,
        _ if shared > most => most,
        _ if leave(&a[shared - 1]) => shared - 1,
        _ => shared,
    }
}

/// Roles and contents of a list of messages.
fn turns(messages: &Value) -> Result<Vec<(&str, &str)>> {
    let list = messages.as_array().ok_or_else(|| Error::unusable("messages are no list"))?;
    list.iter()
        .map(|message| {
            let part = |key: &str| {
                message
                    .get(key)
                    .and_then(Value::as_str)
                    .ok_or_else(|| Error::unusable(format!("a message without text under {key:?}")))
            };
            Ok((part("role")?, part("content")?))
        })
        .collect()
}

/// A prompt of messages and its continuations as texts: the prompt as far as all of them share it.
fn conversation<const N: usize>(
    tokenizer: &Tokenizer,
    prompt: &Value,
    continuations: [&Value; N],
) -> Result<(String, [String; N])> {
    let prompt = turns(prompt)?;
    let mut start = tokenizer.render(&prompt, prompt.last().is_none_or(|(role, _)| *role != "assistant"))?;
    let mut whole = Vec::with_capacity(N);
    for continuation in continuations {
        let mut all = prompt.clone();
        all.extend(turns(continuation)?);
        let text = tokenizer.render(&all, false)?;
        let shared = start.char_indices().zip(text.chars()).find(|((_, a), b)| a != b);
        start.truncate(shared.map_or(start.len().min(text.len()), |((at, _), _)| at));
        whole.push(text);
    }
    let mut parts = whole.into_iter().map(|text| text[start.len()..].to_owned());
    Ok((start.clone(), std::array::from_fn(|_| parts.next().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: &str) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().expect("a file");
        std::fs::write(file.path(), lines).expect("written");
        file
    }

    fn tokenizer(template: &str) -> Tokenizer {
        let folder = tempfile::tempdir().expect("a folder");
        let json = crate::model::tiny::tokenizer().expect("bundled").inner().to_string(false).expect("json");
        std::fs::write(folder.path().join("tokenizer.json"), json).expect("written");
        let config = serde_json::json!({"eos_token": "</s>", "chat_template": template});
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).expect("written");
        Tokenizer::load(folder.path()).expect("loads")
    }

    const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

    #[test]
    fn pairs_come_with_a_prompt_or_share_their_beginning() {
        let rows = file(concat!(
            "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\"}\n\n",
            "{\"chosen\": \"The sky is blue.\", \"rejected\": \"The sky is green.\"}\n",
        ));
        let rows =
            PreferenceRow::read(rows.path(), &tokenizer(TEMPLATE), &mut BadRows::stop()).expect("rows");
        assert_eq!((&*rows[0].prompt, &*rows[0].chosen, &*rows[0].rejected), ("q", "a", "b"));
        assert_eq!(
            (&*rows[1].prompt, &*rows[1].chosen, &*rows[1].rejected),
            ("The sky is", " blue.", " green.")
        );
        assert!(rows[1].place.ends_with("line 3"), "{}", rows[1].place);
    }

    #[test]
    fn conversations_go_through_the_chat_template() {
        let rows = file(concat!(
            "{\"prompt\": [{\"role\": \"user\", \"content\": \"q\"}], \"chosen\": [{\"role\": \"assistant\", \"content\": \"a\"}], ",
            "\"rejected\": [{\"role\": \"assistant\", \"content\": \"b\"}]}\n",
            "{\"chosen\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"a\"}], ",
            "\"rejected\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n",
        ));
        let rows =
            PreferenceRow::read(rows.path(), &tokenizer(TEMPLATE), &mut BadRows::stop()).expect("rows");
        for row in rows {
            assert_eq!(row.prompt, "<user>q</s><assistant>");
            assert_eq!((&*row.chosen, &*row.rejected), ("a</s>", "b</s>"));
            assert!(row.chat);
        }
        let rows = file(
            "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}\n",
        );
        let rows = SftRow::read(rows.path(), &tokenizer(TEMPLATE), &mut BadRows::stop()).expect("rows");
        assert_eq!(rows[0].completion, "<user>q</s><assistant>a</s>");
    }

    #[test]
    fn bad_rows_name_their_line_and_stop_or_are_counted() {
        let rows = file(
            "{\"prompt\": \"q\", \"completion\": \"a\"}\n{\"prompt\": 3, \"completion\": \"a\"}\nno json\n",
        );
        let tokenizer = tokenizer(TEMPLATE);
        let error = SftRow::read(rows.path(), &tokenizer, &mut BadRows::stop()).expect_err("a bad row");
        assert!(error.to_string().contains("line 2") && error.to_string().contains("prompt"), "{error}");
        let mut bad = BadRows::skip();
        assert_eq!(SftRow::read(rows.path(), &tokenizer, &mut bad).expect("rows").len(), 1);
        assert_eq!(bad.found().len(), 2);
        assert!(bad.found()[1].contains("line 3"), "{:?}", bad.found());
    }
}
