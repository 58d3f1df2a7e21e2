//! my-task: two-step sums, a complete task to start from.
//!
//! - **Data**: generated; the same index is the same row for ever.
//! - **Prompt**: the question.
//! - **Steps**: lines, but for the last one, which states the answer.
//! - **Answer**: what follows `The answer is`.
//! - **Verdict**: the answer equals the row's.
//! - **Reference**: two lines of working and the answer.
#![deny(unsafe_code)]

use sipf_plugin::prelude::*;

/// The task `my-task`.
#[derive(Default)]
pub struct MyTask;

impl Task for MyTask {
    fn card(&self) -> TaskCard {
        TaskCard::new("my-task", Domain::Other).summary("two-step sums").max_tokens(64).quotas(2, 2)
    }

    fn source(&self, _: Split) -> Result<Source> {
        Ok(Source::Generated)
    }

    fn generate(&self, split: Split, index: u64) -> Result<Row> {
        let mut stream = Stream::new(random::key(&format!("my-task/{split}"), index));
        let mut number = || 1 + stream.below(20);
        Ok(Row::new(index, json!({ "a": number(), "b": number(), "c": number() })))
    }

    fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>> {
        let (a, b, c) = (row.integer("a")?, row.integer("b")?, row.integer("c")?);
        let (first, total) = (a + b, a + b + c);
        Ok(vec![
            Problem::new(format!("my-task/{split}/{}", row.index), format!("What is {a} + {b} + {c}?"))
                .solution(format!("{a} + {b} = {first}\n{first} + {c} = {total}\nThe answer is {total}"))
                .answer(total.to_string()),
        ])
    }

    fn prompt(&self, problem: &Problem, _: Role) -> Result<String> {
        Ok(format!("{}\n", problem.question))
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        let lines = text::lines(completion).filter(|(start, _)| !completion[*start..].starts_with("The answer is"));
        Ok(lines.zip(0..).map(|((start, end), chunk)| Step { start, end, chunk }).collect())
    }

    fn answer(&self, completion: &str) -> Result<Option<String>> {
        Ok(text::after(completion, "The answer is").map(str::to_owned))
    }

    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        Ok(Check::rules([("stated", self.answer(completion)?)], problem.answer.as_deref()))
    }

    fn fixtures(&self) -> Result<Vec<Row>> {
        Row::jsonl(include_str!("../fixtures/rows.jsonl"))
    }
}

sipf_plugin::export_task!(MyTask);

#[cfg(test)]
mod tests {
    use super::*;
    use sipf_plugin::conformance::{all_hold, check_task};

    #[test]
    fn everything_a_task_must_hold_holds() {
        let findings = check_task(&MyTask, None);
        assert!(all_hold(&findings), "{findings:#?}");
    }
}
