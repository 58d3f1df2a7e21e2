//! MMLU_Math: the mathematics questions of MMLU whose right option is a number, asked without options.
//!
//! - **Data**: `mmlu_math/{elementary,high_school,college}_mathematics_test.csv`; question, four options, letter.
//! - **Prompt**: that of GSM8K.
//! - **Steps**: those of GSM8K.
//! - **Answer**: rules `sipf` (default), `strict`, `flexible` of [`crate::math::number`].
//! - **Verdict**: the number after `The answer is`. A row counts when its right option, commas removed, reads as a
//!   number: 354 rows, as the paper reports, one of them (`2,2,4`) a list that reads as 224.
//! - **Reference**: `The answer is n`; the data set has no worked solutions.

use sipf_plugin::prelude::*;

use crate::math::{equation, number, path};

/// The task `mmlu-math`.
#[derive(Debug, Default, Clone, Copy)]
pub struct MmluMath;

const SUBJECTS: [&str; 3] = ["elementary_mathematics", "high_school_mathematics", "college_mathematics"];

fn published(subject: &str) -> Published {
    Published {
        repository: "cais/mmlu".into(),
        revision: "main".into(),
        path: format!("{subject}/test-00000-of-00001.parquet"),
        format: DataFormat::Parquet,
        sha256: None,
    }
}

/// Question and right option: of a CSV row (columns `0` to `5`) or of a published row (`choices`, `answer`).
fn right_option(row: &Row) -> Result<(&str, String)> {
    if row.data.get("choices").is_some() {
        let options = row.texts("choices")?;
        let right = usize::try_from(row.integer("answer")?).context("key \"answer\"")?;
        let option = options.get(right).context(format!("answer {right} of {} options", options.len()))?;
        return Ok((row.text("question")?, option.clone()));
    }
    let letter = row.text("5")?.trim();
    let column = match letter {
        "A" => "1",
        "B" => "2",
        "C" => "3",
        "D" => "4",
        other => return Err(Error::new(format!("column 5 should be a letter from A to D, found {other:?}"))),
    };
    Ok((row.text("0")?, row.text(column)?.to_owned()))
}

impl Task for MmluMath {
    fn card(&self) -> TaskCard {
        TaskCard::new("mmlu-math", Domain::Math)
            .summary("MMLU mathematics with a numeric answer, without options")
            .rules(number::RULES)
            .stop(["\nQ:", "\n### "])
            .equation_filter("both")
            .runs_with("google/gemma-2b", "prm-deepseek", "gsm8k-gemma-2b")
    }

    fn source(&self, split: Split) -> Result<Source> {
        Ok(match split {
            Split::Test => Source::files(SUBJECTS.map(|subject| {
                DataFile::new(format!("mmlu_math/{subject}_test.csv"), DataFormat::Csv)
                    .named(subject)
                    .published(published(subject))
            })),
            _ => Source::Missing,
        })
    }

    fn problems(&self, row: &Row, _: Split) -> Result<Vec<Problem>> {
        let (question, option) = right_option(row)?;
        let option = option.trim().replace(',', "");
        // Words that Rust reads as numbers ("inf", "nan") are no answers.
        let is_number =
            option.parse::<f64>().is_ok_and(f64::is_finite) && option.contains(|c: char| c.is_ascii_digit());
        let Some(answer) = is_number.then(|| number::normal(&option)).flatten() else {
            return Ok(Vec::new());
        };
        let file = if row.file.is_empty() { SUBJECTS[0] } else { &row.file };
        Ok(vec![
            Problem::new(format!("mmlu-math/{file}/{}", row.index), question)
                .solution(format!("The answer is {answer}"))
                .answer(answer),
        ])
    }

    fn prompt(&self, problem: &Problem, role: Role) -> Result<String> {
        Ok(path::prompt(&problem.question, role))
    }

    fn clean(&self, _: &Problem, raw: &str) -> Result<String> {
        Ok(path::clean(raw))
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        Ok(path::steps(completion))
    }

    fn answer(&self, completion: &str) -> Result<Option<String>> {
        Ok(number::sipf(completion))
    }

    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        Ok(number::judge(completion, problem.answer.as_deref()))
    }

    fn signature(&self, _: &Problem, completion: &str) -> Result<Signature> {
        Ok(equation::signature(completion))
    }

    fn shots(&self) -> Result<Vec<Problem>> {
        crate::Gsm8k.shots()
    }

    fn fixtures(&self) -> Result<Vec<Row>> {
        Row::jsonl(include_str!("../fixtures/mmlu_math.jsonl"))
    }
}
