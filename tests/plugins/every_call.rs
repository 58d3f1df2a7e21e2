//! A task and a reward model that answer every call of API 1.0 themselves, none by a default. The transcript in
//! tests/golden/plugin_api is theirs, so what they answer never changes.
#![deny(unsafe_code)]

use sipf_plugin::prelude::*;

#[derive(Default)]
pub struct EveryCall;

impl Task for EveryCall {
    fn card(&self) -> TaskCard {
        TaskCard::new("every-call", Domain::Code)
            .summary("answers every call")
            .metric(Metric::PassAtK)
            .temperature(0.5)
            .max_tokens(7)
            .stop(["\nQ:"])
            .transfer(["elsewhere"])
            .rules(["sum", "text"])
            .quotas(2, 3)
            .equation_filter("chosen")
            .runs_with("tiny", "every-reward", "tiny")
    }

    fn source(&self, split: Split) -> Result<Source> {
        Ok(match split {
            Split::Test => Source::files([DataFile::new("sums/test.csv", DataFormat::Csv)
                .named("sums")
                .published(Published {
                    repository: "owner/sums".into(),
                    revision: "main".into(),
                    path: "test.parquet".into(),
                    format: DataFormat::Parquet,
                    sha256: Some("00".repeat(32)),
                })]),
            Split::Train => Source::Generated,
            _ => Source::Missing,
        })
    }

    fn generate(&self, split: Split, index: u64) -> Result<Row> {
        match split {
            Split::Train => Ok(Row::new(index, json!({ "a": index, "b": 2 }))),
            other => Err(Error::new(format!("no rows are generated for {other}"))),
        }
    }

    fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>> {
        let (a, b) = (row.integer("a")?, row.integer("b")?);
        Ok(vec![
            Problem::new(format!("every-call/{split}/{}", row.index), format!("{a} + {b} = ?"))
                .answer((a + b).to_string())
                .solution(format!("{a} + {b} = {}\n#### {}", a + b, a + b))
                .demonstration("I guess.\n#### 0")
                .chance(0.25)
                .extra(json!({ "a": a, "b": b })),
        ])
    }

    fn prompt(&self, problem: &Problem, role: Role) -> Result<String> {
        Ok(format!("{role:?}: {}\n", problem.question))
    }

    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        match completion.strip_prefix("program ") {
            Some(source) => Ok(Check::run(
                Program::python(source)
                    .setup("import math")
                    .tests([format!("f() == {}", problem.answer.as_deref().unwrap_or("0"))])
                    .names(["f"])
                    .limits(sipf_plugin::Limits { fuel: 1, memory_bytes: 2, output_bytes: 3 }),
            )),
            None => Ok(Check::rules(
                [("sum", self.answer(completion)?), ("text", Some(completion.to_owned()))],
                problem.answer.as_deref(),
            )),
        }
    }

    fn judge(&self, problem: &Problem, outcome: &Outcome) -> Result<Verdict> {
        Ok(Verdict::new(outcome.fuel < 10).message(format!("{}: {}", problem.id, outcome.verdict)))
    }

    fn clean(&self, _: &Problem, raw: &str) -> Result<String> {
        Ok(raw.trim().to_owned())
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        Ok(text::lines(completion).map(|(start, end)| Step { start, end, chunk: 0 }).collect())
    }

    fn answer(&self, completion: &str) -> Result<Option<String>> {
        Ok(text::after(completion, "####").map(str::to_owned))
    }

    fn signature(&self, _: &Problem, completion: &str) -> Result<Signature> {
        Ok(match completion.len() {
            0 => Signature::drop("empty"),
            1..=3 => Signature::exact(completion),
            4..=9 => Signature::near(completion, 1.5),
            _ => Signature::key("key", completion).flawed(Some("long".into())),
        })
    }

    fn shots(&self) -> Result<Vec<Problem>> {
        self.problems(&Row::new(9, json!({ "a": 9, "b": 9 })), Split::Train)
    }

    fn measure(&self, _: &Problem, completion: &str, verdict: &Verdict) -> Result<Vec<Measure>> {
        let value = completion.len() as f64 / if verdict.passed { 2.0 } else { 4.0 };
        Ok(vec![Measure { name: "length".into(), value }])
    }

    fn step_truth(&self, problem: &Problem, completion: &str) -> Result<Option<Vec<bool>>> {
        let steps = self.steps(problem, completion)?;
        Ok(Some(steps.iter().map(|step| step.start == 0).collect()))
    }

    fn fixtures(&self) -> Result<Vec<Row>> {
        Ok(vec![Row::new(0, json!({ "a": 1, "b": 2 })), Row::new(1, json!({ "a": 20, "b": 22 }))])
    }
}

#[derive(Default)]
pub struct EveryReward;

impl RewardModel for EveryReward {
    fn card(&self) -> RewardCard {
        RewardCard::process("every-reward")
            .summary("answers every call, read at <step>")
            .base(Domain::Code, "owner/base")
            .simulator(Domain::Math, "owner/simulator")
            .marker(Marker::Token { token: "<step>".into() })
            .readout(Readout::TokenPair { good: "+".into(), bad: "-".into() })
            .offset(-1)
            .aggregate(Aggregate::Product)
            .training(Training { batch: 3, ..Training::default() })
    }

    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        let mut pieces = vec![Piece::turn("user", problem.question.as_str())];
        pieces.extend(steps.iter().flat_map(|step| [Piece::text(*step), Piece::Marker]));
        Ok(pieces)
    }

    fn aggregate(&self, scores: &[f32]) -> Result<f32> {
        Ok(scores.iter().sum())
    }
}

sipf_plugin::export_plugin!(tasks: [EveryCall], rewards: [EveryReward]);
