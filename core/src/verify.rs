//! The verdict on completions: ask the task, run the program it asks for, ask the task to judge the outcome.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sipf_plugin::{Check, Execute, Limits, Problem, Program, RunVerdict, Task, Verdict};

use crate::error::{Error, Result};

/// What is known about one completion.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Judged {
    /// Right by the rule that counts.
    pub passed: bool,
    /// What each answer rule says.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_rule: BTreeMap<String, bool>,
    /// The final answer found, in normal form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The sandbox's class, where a program ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<RunVerdict>,
    /// One line for the reader of a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Neither right nor wrong: the sandbox could not carry the test, or failed.
    #[serde(skip)]
    pub undecided: bool,
}

/// Judges completions of one task.
#[derive(Clone)]
pub struct Verifier {
    task: Arc<dyn Task>,
    execute: Option<Arc<dyn Execute>>,
    rule: Option<String>,
    limits: Limits,
}

impl Verifier {
    /// A verifier; `execute` is needed by tasks that ask for programs to be run. `rule` names the answer rule that
    /// `passed` means; `None` is the card's.
    ///
    /// # Errors
    /// When the task has no such rule.
    pub fn new(task: Arc<dyn Task>, execute: Option<Arc<dyn Execute>>, rule: Option<&str>) -> Result<Self> {
        let card = task.card();
        if let Some(rule) = rule.filter(|rule| !card.rules.iter().any(|known| known == rule)) {
            let known = match card.rules.is_empty() {
                true => "it has only one way to be right".to_owned(),
                false => format!("it has {}", card.rules.join(", ")),
            };
            return Err(Error::unusable(format!(
                "--rule {rule}: task {} has no such rule, {known}",
                card.name
            )));
        }
        let rule =
            rule.map(str::to_owned).or_else(|| Some(card.rule.clone()).filter(|rule| !rule.is_empty()));
        Ok(Self { task, execute, rule, limits: card.limits })
    }

    /// The task.
    pub fn task(&self) -> &Arc<dyn Task> {
        &self.task
    }

    /// The rule that `passed` means; `None` where there is only one way to be right.
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    /// Judges every `(problem, completion)`; `done(i, judged)` is called once for each, as results come, from any
    /// thread. Completions are cleaned already. Once `stop` is true the rest is left out.
    pub fn judge(
        &self,
        items: &[(&Problem, &str)],
        stop: &AtomicBool,
        done: &(dyn Fn(usize, Result<Judged>) + Sync),
    ) {
        // Equal programs are run once: six prompts of a row share their reference, samples repeat one another.
        let mut programs: Vec<Program> = Vec::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        for (place, (problem, completion)) in items.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match self.task.verify(problem, completion) {
                Ok(Check::Verdict(verdict)) => done(place, Ok(self.of_verdict(verdict, None))),
                Ok(Check::Run(program)) => match serde_json::to_string(&program) {
                    Ok(key) => {
                        let number = *known.entry(key).or_insert(programs.len());
                        if number == programs.len() {
                            programs.push(self.limited(program));
                            places.push(Vec::new());
                        }
                        places[number].push(place);
                    }
                    Err(error) => done(place, Err(error.into())),
                },
                Ok(_) => done(place, Err(Error::unusable("the task answered with an unknown kind of check"))),
                Err(error) => done(place, Err(error.context(&problem.id).into())),
            }
        }
        if programs.is_empty() {
            return;
        }
        let Some(execute) = &self.execute else {
            for place in places.into_iter().flatten() {
                done(place, Err(Error::unusable("this task runs programs and no sandbox was given")));
            }
            return;
        };
        execute.run(&programs, stop, &|index, outcome| {
            for place in &places[index] {
                let problem = items[*place].0;
                let judged = outcome.clone().map_err(Error::from).and_then(|outcome| {
                    let verdict =
                        self.task.judge(problem, &outcome).map_err(|error| error.context(&problem.id))?;
                    Ok(self.of_verdict(verdict, Some((outcome.verdict, outcome.explanation()))))
                });
                done(*place, judged);
            }
        });
    }

    /// Judges all of them; the results come in the order of the items.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when `stop` was set before all were judged.
    pub fn judge_all(&self, items: &[(&Problem, &str)], stop: &AtomicBool) -> Result<Vec<Result<Judged>>> {
        let results: Vec<Mutex<Option<Result<Judged>>>> = items.iter().map(|_| Mutex::new(None)).collect();
        self.judge(items, stop, &|place, judged| {
            *results[place].lock().unwrap_or_else(PoisonError::into_inner) = Some(judged);
        });
        results
            .into_iter()
            .map(|result| match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(judged) => Ok(judged),
                None if stop.load(Ordering::Relaxed) => Err(Error::Interrupted),
                None => Ok(Err(Error::unusable("no verdict came back"))),
            })
            .collect()
    }

    /// Judges one completion.
    ///
    /// # Errors
    /// When the task or the sandbox fails.
    pub fn judge_one(&self, problem: &Problem, completion: &str) -> Result<Judged> {
        let place = std::sync::Mutex::new(None);
        self.judge(&[(problem, completion)], &AtomicBool::new(false), &|_, judged| {
            if let Ok(mut place) = place.lock() {
                *place = Some(judged);
            }
        });
        place.into_inner().ok().flatten().unwrap_or_else(|| Err(Error::unusable("no verdict came back")))
    }

    /// Limits that a program does not name are the card's.
    fn limited(&self, mut program: Program) -> Program {
        let pick = |own: u64, card: u64| if own == 0 { card } else { own };
        program.limits = Limits {
            fuel: pick(program.limits.fuel, self.limits.fuel),
            memory_bytes: pick(program.limits.memory_bytes, self.limits.memory_bytes),
            output_bytes: pick(program.limits.output_bytes, self.limits.output_bytes),
        };
        program
    }

    fn of_verdict(&self, verdict: Verdict, run: Option<(RunVerdict, Option<String>)>) -> Judged {
        let by_chosen_rule = self.rule.as_ref().and_then(|rule| verdict.by_rule.get(rule)).copied();
        let undecided = run.as_ref().is_some_and(|(class, _)| class.is_undecided());
        let explained = run.as_ref().and_then(|(_, text)| text.clone());
        Judged {
            passed: by_chosen_rule.unwrap_or(verdict.passed) && !undecided,
            by_rule: verdict.by_rule,
            answer: verdict.answer,
            message: verdict.message.or(explained),
            verdict: run.map(|(class, _)| class),
            undecided,
        }
    }
}
