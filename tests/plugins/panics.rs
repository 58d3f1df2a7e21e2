//! A task that panics, fails, overflows or answers too much, depending on what it is asked.
#![deny(unsafe_code)]

use sipf_plugin::prelude::*;

#[derive(Default)]
pub struct Panics;

impl Task for Panics {
    fn card(&self) -> TaskCard {
        TaskCard::new("panics", Domain::Other)
    }

    fn problems(&self, _: &Row, _: Split) -> Result<Vec<Problem>> {
        std::panic::panic_any(7)
    }

    fn prompt(&self, problem: &Problem, _: Role) -> Result<String> {
        Ok(problem.question.clone())
    }

    fn verify(&self, _: &Problem, completion: &str) -> Result<Check> {
        let letters: Vec<char> = completion.chars().collect();
        Ok(Check::Verdict(Verdict::new(letters[100] == 'a')))
    }

    fn clean(&self, _: &Problem, raw: &str) -> Result<String> {
        Ok(raw.repeat(65 << 20))
    }

    fn answer(&self, completion: &str) -> Result<Option<String>> {
        Err(Error::new(format!("cannot read {completion:?}")))
    }

    fn measure(&self, _: &Problem, _: &str, _: &Verdict) -> Result<Vec<Measure>> {
        Ok(vec![Measure { name: "ratio".into(), value: 0.0_f64 / 0.0 }])
    }

    fn steps(&self, _: &Problem, completion: &str) -> Result<Vec<Step>> {
        Ok(vec![Step { start: 0, end: completion.len() + 1, chunk: 0 }])
    }
}

sipf_plugin::export_task!(Panics);
