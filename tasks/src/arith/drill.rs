//! `arith-drill`: number facts without a story, mixed into the corpus that teaches a tiny model to calculate.
//!
//! - **Data**: generated; nine expressions a problem, numbers up to 40.
//! - **Prompt**: `Q: 3+4 12/3 ...\nA:\n`.
//! - **Steps**: lines, one equation each.
//! - **Answer**: none.
//! - **Verdict**: the right equations in order, nothing else.
//! - **Reference**: the equations.

use sipf_plugin::prelude::*;

use super::plan::{LARGEST, Operator};

/// The task `arith-drill`.
#[derive(Debug, Default, Clone, Copy)]
pub struct ArithDrill;

const FACTS: usize = 9;

fn fact(stream: &mut Stream) -> (i64, Operator, i64, i64) {
    use Operator::{Add, Divide, Multiply, Subtract};
    let kinds = [Add, Add, Subtract, Subtract, Multiply, Multiply, Divide];
    loop {
        let operator = stream.pick(&kinds).copied().unwrap_or(Add);
        let mut between = |low: i64, high: i64| low + i64::from(stream.below((high - low + 1) as u32));
        let mut left = between(1, LARGEST);
        let right = match operator {
            Multiply | Divide => between(2, 9),
            _ if between(0, 4) < 3 => between(2, 20),
            _ => between(1, LARGEST),
        };
        if operator == Divide && between(0, 9) < 7 {
            left = right * between(1, LARGEST / right);
        }
        if let Some(result) = operator.apply(left, right).filter(|result| (1..=LARGEST).contains(result)) {
            return (left, operator, right, result);
        }
    }
}

impl Task for ArithDrill {
    fn card(&self) -> TaskCard {
        super::card("arith-drill", "number facts for the corpus of the bundled model (no download)")
            .rules::<String>([])
    }

    fn source(&self, split: Split) -> Result<Source> {
        Ok(match split {
            Split::Train | Split::Test => Source::Generated,
            _ => Source::Missing,
        })
    }

    fn generate(&self, split: Split, index: u64) -> Result<Row> {
        let mut stream = Stream::new(random::key(&format!("arith-drill/{split}"), index));
        let facts: Vec<_> = (0..FACTS).map(|_| fact(&mut stream)).collect();
        let question =
            facts.iter().map(|(left, operator, right, _)| format!("{left}{}{right}", operator.symbol()));
        let solution = facts.iter().map(|(left, operator, right, result)| {
            format!("<<{left}{}{right}={result}>>{result}", operator.symbol())
        });
        Ok(Row::new(
            index,
            json!({
                "question": question.collect::<Vec<_>>().join(" "),
                "solution": solution.collect::<Vec<_>>().join("\n"),
            }),
        ))
    }

    fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>> {
        Ok(vec![
            Problem::new(format!("arith-drill/{split}/{}", row.index), row.text("question")?)
                .solution(row.text("solution")?),
        ])
    }

    fn prompt(&self, problem: &Problem, _: Role) -> Result<String> {
        Ok(format!("Q: {}\nA:\n", problem.question))
    }

    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        Ok(Check::Verdict(Verdict::new(Some(completion.trim_end()) == problem.solution.as_deref())))
    }
}
