//! Regular expressions over the names of layers, where PEFT has them and as it matches them.

use fancy_regex::Regex;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// One regular expression in Python's syntax.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    fn new(text: &str, around: &str) -> std::result::Result<Self, String> {
        match Regex::new(around) {
            Ok(regex) => Ok(Self { text: text.to_owned(), regex }),
            Err(error) => Err(format!("{text:?} is no regular expression that this program reads: {error}")),
        }
    }

    /// One that the whole name has to match: `re.fullmatch(text, name)`.
    pub(super) fn whole(text: &str) -> std::result::Result<Self, String> {
        Self::new(text, &format!("^(?:{text})$"))
    }

    /// One for the name's end: `re.match(rf"(.*\.)?({text})$", name)`.
    fn end(text: &str) -> std::result::Result<Self, String> {
        Self::new(text, &format!(r"^(.*\.)?({text})$"))
    }

    /// One for a part between dots: `re.match(rf"(^|.*\.){text}($|\..*)", name)`.
    pub(super) fn part(text: &str) -> std::result::Result<Self, String> {
        Self::new(text, &format!(r"^(?:(^|.*\.){text}($|\..*))"))
    }

    pub(super) fn matches(&self, name: &str) -> Result<bool> {
        self.regex.is_match(name).map_err(|error| {
            Error::unusable(format!("the adapter's {:?} cannot be matched to {name}: {error}", self.text))
        })
    }
}

/// Values of single layers, each under a regular expression for the end of their names; the first that matches counts.
#[derive(Debug, Clone)]
pub struct Patterns<T>(Vec<(Pattern, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> PartialEq for Patterns<T> {
    fn eq(&self, other: &Self) -> bool {
        let both = || self.0.iter().zip(&other.0);
        self.0.len() == other.0.len() && both().all(|((a, x), (b, y))| a.text == b.text && x == y)
    }
}

impl<T: Copy> Patterns<T> {
    /// Patterns and values in the order in which they are tried.
    ///
    /// # Errors
    /// Names what is no regular expression.
    pub fn of(pairs: impl IntoIterator<Item = (String, T)>) -> std::result::Result<Self, String> {
        let pairs = pairs.into_iter().map(|(text, value)| Ok((Pattern::end(&text)?, value)));
        pairs.collect::<std::result::Result<_, _>>().map(Self)
    }

    pub(super) fn find(&self, layer: &str) -> Result<Option<T>> {
        for (pattern, value) in &self.0 {
            if pattern.matches(layer)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

impl<T: Serialize> Serialize for Patterns<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(pattern, value)| (&pattern.text, value)))
    }
}

impl<'de, T: DeserializeOwned + Copy> Deserialize<'de> for Patterns<T> {
    /// In the order of the file, which decides between two that match.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let map = Map::<String, Value>::deserialize(deserializer)?;
        let pairs = map.into_iter().map(|(text, value)| match serde_json::from_value(value) {
            Ok(value) => Ok((text, value)),
            Err(error) => Err(D::Error::custom(format!("{text:?}: {error}"))),
        });
        let pairs: Vec<(String, T)> = pairs.collect::<std::result::Result<_, _>>()?;
        Self::of(pairs).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "model.layers.11.self_attn.q_proj";

    #[test]
    fn names_are_matched_as_python_matches_them() {
        let end = |text: &str| Pattern::end(text).unwrap().matches(QUERY).unwrap();
        for text in [
            "q_proj",
            "self_attn.q_proj",
            r"layers\.1[0-9]\..*",
            "^model.layers.11.self_attn.q_proj",
            "k_proj|q_proj",
        ] {
            assert!(end(text), "{text}");
        }
        for text in ["proj", "^q_proj", "layers.1.self_attn.q_proj", "self_attn"] {
            assert!(!end(text), "{text}");
        }
        let whole = |text: &str| Pattern::whole(text).unwrap().matches(QUERY).unwrap();
        assert!(whole(r".*\.(q|v)_proj") && whole(r"(?!.*layers\.2\.).*q_proj"));
        assert!(!whole("q_proj") && !whole(r"(?!.*layers\.11\.).*q_proj"));
        let part = |text: &str| Pattern::part(text).unwrap().matches(QUERY).unwrap();
        assert!(part("self_attn") && part("q_proj") && part("layers.11") && part("model"));
        assert!(!part("layers.1") && !part("proj"));
        assert!(Pattern::end("(").unwrap_err().contains("\"(\""));
    }

    #[test]
    fn the_first_of_the_file_counts() {
        let read = |text: &str| serde_json::from_str::<Patterns<f64>>(text).unwrap();
        let patterns = read(r#"{"q_proj": 32, "layers.11.self_attn.q_proj": 64}"#);
        assert_eq!(patterns.find(QUERY).unwrap(), Some(32.0));
        assert_eq!(patterns.find("model.layers.11.self_attn.k_proj").unwrap(), None);
        let other = read(r#"{"layers.11.self_attn.q_proj": 64, "q_proj": 32}"#);
        assert_eq!(other.find(QUERY).unwrap(), Some(64.0));
        assert_ne!(patterns, other);
        let written = serde_json::to_string(&other).unwrap();
        assert_eq!(written, r#"{"layers.11.self_attn.q_proj":64.0,"q_proj":32.0}"#);
        let refused = serde_json::from_str::<Patterns<usize>>(r#"{"q_proj": "x"}"#).unwrap_err().to_string();
        assert!(refused.contains("q_proj"), "{refused}");
    }
}
