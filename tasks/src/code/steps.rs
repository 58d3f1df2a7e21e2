//! Steps of a program: every non-empty line is scored, rollouts start after coarser chunks.
//!
//! A chunk is a statement at the left margin or directly in a function's body, with everything nested in it. The
//! paper's scripts label chunks and copy the label to their lines.

use sipf_plugin::{Step, text};

/// Words that go on with the statement before them.
const CONTINUATIONS: [&str; 8] = ["elif", "else", "except", "finally", "case", ")", "]", "}"];

/// One step a non-empty line; lines of one chunk share its number.
pub fn steps(source: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut chunk = 0;
    let mut body: Option<usize> = None;
    let mut header: Option<usize> = None;
    for (start, end) in text::lines(source) {
        let line_start = source[..start].rfind('\n').map_or(0, |n| n + 1);
        let indent = source[line_start..start].chars().map(|c| if c == '\t' { 8 } else { 1 }).sum::<usize>();
        let line = &source[start..end];
        if indent == 0 {
            body = None;
        } else if header.is_some_and(|above| indent > above) && body.is_none() {
            body = Some(indent);
        }
        let continues = CONTINUATIONS.iter().any(|word| line.starts_with(word));
        let begins = (indent == 0 || body.is_some_and(|body| indent <= body)) && !continues;
        if begins && !steps.is_empty() {
            chunk += 1;
        }
        if line.starts_with("def ") || line.starts_with("async def ") || line.starts_with("class ") {
            header = Some(indent);
            if indent > 0 {
                body = None;
            }
        }
        steps.push(Step { start, end, chunk });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sipf_plugin::conformance::check_steps;

    #[test]
    fn nested_lines_share_their_statement_s_chunk() {
        let source = "def f(n):\n    total = 0\n    for i in range(n):\n        if i:\n            total += i\n    else:\n        pass\n\n    return total\nx = f(3)";
        let chunks: Vec<u32> = steps(source).iter().map(|step| step.chunk).collect();
        assert_eq!(chunks, [0, 1, 2, 2, 2, 2, 2, 3, 4]);
    }

    proptest! {
        #[test]
        fn spans_and_gaps_give_the_text_back(text in "(\\PC|\n|    |def f\\(\\):|else:){0,60}") {
            let steps = steps(&text);
            prop_assert!(check_steps(&text, &steps).is_ok());
            let mut again = String::new();
            let mut at = 0;
            for step in &steps {
                again.push_str(&text[at..step.start]);
                again.push_str(&text[step.start..step.end]);
                at = step.end;
            }
            again.push_str(&text[at..]);
            prop_assert_eq!(again, text);
        }
    }
}
