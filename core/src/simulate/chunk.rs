//! Where rollouts begin: after each chunk of steps.

use sipf_plugin::Step;

/// Steps that share their rollouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its number, as the task gave it.
    pub(super) number: u32,
    /// Where the part of the completion that is given ends.
    pub(super) end: usize,
}

/// The chunks of a completion, in order.
///
/// A rollout begins after the last span of its chunk and the white space that follows, as far as the last line break in
/// it: spaces behind that belong to the next token in the tokenizers at hand (`    return` is three spaces and
/// `" return"`), and a prefix that ends in them would ask the model for something it never wrote.
pub(super) fn chunks(completion: &str, steps: &[Step]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for step in steps {
        let end = begin_after(completion, step.end);
        match chunks.iter_mut().find(|chunk| chunk.number == step.chunk) {
            Some(chunk) => chunk.end = end,
            None => chunks.push(Chunk { number: step.chunk, end }),
        }
    }
    chunks
}

fn begin_after(completion: &str, end: usize) -> usize {
    let rest = completion.get(end..).unwrap_or_default();
    let white = &rest[..rest.len() - rest.trim_start().len()];
    end + white.rfind('\n').map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(completion: &str, steps: &[(usize, usize, u32)]) -> Vec<String> {
        let steps: Vec<Step> = steps
            .iter()
            .map(|(start, end, chunk)| Step { start: *start, end: *end, chunk: *chunk })
            .collect();
        chunks(completion, &steps).iter().map(|chunk| completion[..chunk.end].to_owned()).collect()
    }

    #[test]
    fn line_breaks_that_follow_are_given_and_the_last_line_has_none() {
        assert_eq!(given("a\n\nb\n#### 3", &[(0, 1, 0), (3, 4, 1)]), ["a\n\n", "a\n\nb\n"]);
        assert_eq!(given("a\nb", &[(0, 1, 0), (2, 3, 1)]), ["a\n", "a\nb"]);
    }

    #[test]
    fn indentation_is_left_to_the_model() {
        let program = "def f(x):\n    y = x\n\n    return y";
        assert_eq!(
            given(program, &[(0, 9, 0), (14, 19, 1), (25, 33, 2)]),
            ["def f(x):\n", "def f(x):\n    y = x\n\n", program]
        );
        assert_eq!(given("One. Two.", &[(0, 4, 0), (5, 9, 1)]), ["One.", "One. Two."]);
    }

    #[test]
    fn lines_of_one_chunk_begin_together_after_its_last_line() {
        assert_eq!(
            given("for x:\n  a\n  b\nc", &[(0, 6, 0), (9, 10, 0), (13, 14, 0), (15, 16, 1)]),
            ["for x:\n  a\n  b\n", "for x:\n  a\n  b\nc"]
        );
    }
}
