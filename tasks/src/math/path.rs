//! A worked solution in words: how it is asked for, where it ends, what its steps are.

use sipf_plugin::{Role, Step, text};

use crate::math::number;

/// The prompt of math tasks, by reader.
pub fn prompt(question: &str, role: Role) -> String {
    match role {
        Role::Simulator => {
            format!("{question}\nPlease reason step by step, and put your final answer within \\boxed{{}}.\n")
        }
        Role::FewShot => format!("Q: {question}\nA: "),
        _ => include_str!("../../prompts/math_policy.txt").replace("{question}", question),
    }
}

/// Lines, but for the one that states the answer; one chunk each.
pub fn steps(completion: &str) -> Vec<Step> {
    text::lines(completion)
        .filter(|(start, end)| !number::is_answer_line(&completion[*start..*end]))
        .enumerate()
        .map(|(chunk, (start, end))| Step { start, end, chunk: chunk as u32 })
        .collect()
}

/// The text up to the line that states the answer, with it and further such lines right behind it.
pub fn clean(raw: &str) -> String {
    let states = |line: &str| line.contains("The answer is") || number::is_answer_line(line);
    let mut end = 0;
    let mut stated = false;
    for line in raw.split_inclusive('\n') {
        if stated && !states(line) && !line.trim().is_empty() {
            break;
        }
        stated |= states(line);
        end += line.len();
    }
    raw[..end].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sipf_plugin::conformance::check_steps;

    #[test]
    fn a_completion_ends_with_its_answer() {
        let raw = "1 + 1 = <<1+1=2>>2\nThe answer is 2\n#### 2\n\nQ: next\nThe answer is 9";
        assert_eq!(clean(raw), "1 + 1 = <<1+1=2>>2\nThe answer is 2\n#### 2");
        assert_eq!(clean("no answer \n here \n"), "no answer \n here");
    }

    #[test]
    fn answer_lines_are_no_steps() {
        let completion = "a\n\n  b \nThe answer is 3\n#### 3";
        let steps: Vec<&str> = super::steps(completion).iter().map(|s| &completion[s.start..s.end]).collect();
        assert_eq!(steps, ["a", "b"]);
    }

    proptest! {
        #[test]
        fn spans_and_gaps_give_the_text_back(text in "(\\PC|\n|The answer is |#### |<<1=1>>){0,60}") {
            let cleaned = clean(&text);
            prop_assert!(text.starts_with(&cleaned));
            prop_assert_eq!(&clean(&cleaned), &cleaned);
            let steps = super::steps(&cleaned);
            prop_assert!(check_steps(&cleaned, &steps).is_ok());
            let mut at = 0;
            let mut again = String::new();
            for step in &steps {
                again.push_str(&cleaned[at..step.end]);
                at = step.end;
            }
            again.push_str(&cleaned[at..]);
            prop_assert_eq!(again, cleaned);
        }
    }
}
