//! Python source as text: the program in a completion, the names it defines, the names a test reads.
//!
//! A line scanner, not a parser: it looks at what stands at the left margin, outside strings.

use std::collections::BTreeSet;

use sipf_plugin::{Signature, text};

/// Where a completion of a code task ends: each at the start of a line (the paper's scripts).
pub const STOPS: [&str; 5] = ["'''", "assert", "if __name__ ==", "```", "print"];

/// The stop strings that make a generator end there.
pub fn stop_strings() -> [String; 5] {
    STOPS.map(|stop| format!("\n{stop}"))
}

/// The program in a completion: the first fenced block if only prose stands before it, then up to a stop.
pub fn program(completion: &str) -> &str {
    let is_code =
        |line: &str| line.starts_with([' ', '\t']) && !line.trim().is_empty() || defines_something(line);
    let fence_first = completion.find("```").is_some_and(|at| !completion[..at].lines().any(is_code));
    let body = match fence_first {
        true => text::fenced(completion).unwrap_or(completion),
        false => completion,
    };
    text::before_line(body, &STOPS).trim_end()
}

fn defines_something(line: &str) -> bool {
    ["def ", "class ", "import ", "from ", "async def ", "@"].iter().any(|start| line.starts_with(start))
}

/// Lines at the left margin, outside triple-quoted strings.
fn margin_lines(source: &str) -> impl Iterator<Item = &str> {
    let mut open: Option<&'static str> = None;
    source.lines().filter(move |line| {
        let outside = open.is_none();
        let mut rest = *line;
        loop {
            match open {
                Some(quote) => match rest.split_once(quote) {
                    Some((_, after)) => (open, rest) = (None, after),
                    None => break,
                },
                None => {
                    let first = ["\"\"\"", "'''"].into_iter().filter_map(|q| Some((rest.find(q)?, q))).min();
                    match first {
                        Some((at, quote)) => (open, rest) = (Some(quote), &rest[at + 3..]),
                        None => break,
                    }
                }
            }
        }
        outside && line.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '(')
    })
}

fn identifier(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = &text[..end];
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some(name)
}

/// The names that a program defines at its top level: functions, classes and assigned variables.
pub fn defined(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in margin_lines(source) {
        let line = line.strip_prefix("async ").unwrap_or(line);
        if let Some(rest) = line.strip_prefix("def ").or_else(|| line.strip_prefix("class ")) {
            names.extend(identifier(rest.trim_start()).map(str::to_owned));
            continue;
        }
        // `a = ...`, `a, b = ...`, `a: int = ...`, `a = b = ...`; not `a == b`, not `f(x=1)`, not `a.b = ...`.
        for target in assigned_targets(line) {
            names.insert(target);
        }
    }
    names
}

fn assigned_targets(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find('=') {
        let (left, right) = (&rest[..at], &rest[at + 1..]);
        let operator = left.ends_with(['=', '!', '<', '>', '+', '-', '*', '/', '%', '&', '|', '^', '@', ':']);
        if right.starts_with('=') || operator {
            break;
        }
        let left = left.split_once(':').map_or(left, |(name, _)| name);
        let names: Option<Vec<&str>> = left
            .trim()
            .trim_matches(['(', ')', '[', ']'])
            .split(',')
            .map(|part| part.trim().trim_matches(['(', ')', '[', ']']))
            .filter(|part| !part.is_empty())
            .map(|part| {
                identifier(part.trim_start_matches('*'))
                    .filter(|name| name.len() == part.trim_start_matches('*').len())
            })
            .collect();
        match names {
            Some(names) => found.extend(names.into_iter().map(str::to_owned)),
            None => break,
        }
        rest = right;
    }
    found
}

/// Every identifier that stands in some code, strings included: more than it reads, never less.
pub fn mentioned(source: &str) -> BTreeSet<String> {
    source
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter_map(identifier)
        .map(str::to_owned)
        .collect()
}

/// Whether a program defines this name at its top level.
pub fn defines(source: &str, name: &str) -> bool {
    defined(source).contains(name)
}

/// What makes two programs the same: an edit distance over the text without white space, under the bound of the
/// paper's scripts, 0.8 x (mean length of the non-empty lines + 1).
pub fn signature(source: &str) -> Signature {
    let squeezed: String = source.chars().filter(|c| !c.is_whitespace()).collect();
    let lines: Vec<usize> =
        source.lines().map(|line| line.trim().chars().count()).filter(|n| *n > 0).collect();
    let mean = lines.iter().sum::<usize>() as f32 / lines.len().max(1) as f32;
    Signature::near(squeezed, 0.8 * (mean + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn top_level_names_are_found() {
        let source = "import math\nLIMIT = 3\nx, (y) = 1, 2\nz: int = 4\na = b = 5\ndef f(n=1):\n    inner = 2\n    return n\n\
                      class Node:\n    pass\nasync def g():\n    pass\nprint(n == 3)\nf(k=2)\nnode.left = 3\nx += 1\n\
                      s = '''\ndef not_this():\n'''\nt = 1\n";
        let names: Vec<String> = defined(source).into_iter().collect();
        assert_eq!(names, ["LIMIT", "Node", "a", "b", "f", "g", "s", "t", "x", "y", "z"]);
    }

    #[test]
    fn programs_are_cut_out() {
        assert_eq!(program("def f():\n    return 1\nassert f() == 1"), "def f():\n    return 1");
        assert_eq!(program("Sure:\n```python\ndef f():\n    return 1\n```\nDone"), "def f():\n    return 1");
        assert_eq!(program("def f():\n    return 1\n```\nText"), "def f():\n    return 1");
        assert_eq!(program("```\nx = 1\n"), "x = 1");
        assert_eq!(program("    return 1\n```\nThat is it."), "    return 1");
        assert_eq!(
            program("def f():\n    return 1\nif __name__ == '__main__':\n    f()"),
            "def f():\n    return 1"
        );
    }

    proptest! {
        #[test]
        fn never_a_panic(text in any::<String>()) {
            let _ = (program(&text), defined(&text), mentioned(&text), signature(&text));
        }

        #[test]
        fn a_program_is_part_of_its_completion(text in "[a-z`'\"\n =():]{0,200}") {
            prop_assert!(text.contains(program(&text)));
        }
    }
}
