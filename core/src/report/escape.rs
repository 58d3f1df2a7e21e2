//! Model-written text in a page: as HTML text, and as JSON inside a script element.

use serde_json::Value;

/// Text for an element or a quoted attribute.
pub(super) fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // What HTML does not allow even as a reference; shown as the replacement character.
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

/// JSON that neither ends its script element nor opens a comment in it: both take a `<`. Nothing else is special there,
/// and equations are full of `>`.
pub(super) fn script(value: &Value) -> String {
    let mut safe = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_element() {
        let hostile = "</script><!--<script>\u{2028}\"'&\u{0}";
        assert!(!html(hostile).contains(['<', '>', '"', '\'', '\u{0}']));
        let json = script(&Value::from(hostile));
        assert!(!json.contains(['<', '\u{2028}']));
        assert_eq!(serde_json::from_str::<Value>(&json).expect("still JSON"), Value::from(hostile));
    }
}
