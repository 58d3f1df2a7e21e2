//! Docstrings of Python prompts: their text, and their examples as asserts.

/// The docstring of the last function of a prompt, without its quotes.
pub fn docstring(prompt: &str) -> &str {
    ["\"\"\"", "'''"]
        .into_iter()
        .filter_map(|quote| {
            let (before, _) = prompt.trim_end().rsplit_once(quote)?;
            Some(before.rsplit_once(quote)?.1)
        })
        .min_by_key(|text| text.len())
        .unwrap_or(prompt)
}

/// Description and examples (as asserts) of a docstring with `>>>` lines.
pub fn reordered(docstring: &str) -> (String, Vec<String>) {
    let (mut description, mut tests) = (Vec::new(), Vec::new());
    let mut lines = docstring.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        match (line.strip_prefix(">>>"), lines.peek()) {
            (Some(call), Some(value)) if !value.is_empty() && !value.starts_with(">>>") => {
                tests.push(format!("assert {} == {value}", call.trim()));
                lines.next();
            }
            (Some(_), _) => {}
            (None, _) if !line.is_empty() => description.push(line),
            _ => {}
        }
    }
    (description.join(" "), tests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples_become_asserts() {
        let prompt = "def f(x):\n    \"\"\" Add one.\n    >>> f(1)\n    2\n    >>> f(2)\n    3\n    \"\"\"\n";
        let (description, tests) = reordered(docstring(prompt).trim());
        assert_eq!(description, "Add one.");
        assert_eq!(tests, ["assert f(1) == 2", "assert f(2) == 3"]);
    }

    proptest! {
        #[test]
        fn never_a_panic(text in any::<String>()) {
            let _ = reordered(docstring(&text));
        }
    }
}
