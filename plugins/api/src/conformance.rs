//! What every task must hold, checked on its own fixture rows: `cargo test` in an author's crate runs it, and so
//! does `sipf plugin check`, which brings the sandbox along.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::check::{Check, Program, Verdict};
use crate::error::{Error, Result};
use crate::execute::Execute;
use crate::layout::{Marker, Piece, Step};
use crate::manifest::well_formed;
use crate::problem::{Problem, Row, Source, Split};
use crate::random::Stream;
use crate::reward::RewardModel;
use crate::task::{Role, Task};

/// How one check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// It holds.
    Yes,
    /// It does not, and why.
    No(String),
    /// It could not be checked here, and why.
    Skipped(String),
}

/// One check and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The property, as a sentence.
    pub property: &'static str,
    /// Whether it holds.
    pub held: Held,
}

/// Whether none of the findings is a failure.
pub fn all_hold(findings: &[Finding]) -> bool {
    !findings.iter().any(|finding| matches!(finding.held, Held::No(_)))
}

/// Checks a task on its fixture rows. Without `execute` the checks that run programs are skipped and say so.
pub fn check_task(task: &dyn Task, execute: Option<&dyn Execute>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |property, result: Result<Option<String>>| {
        let held = match result {
            Ok(None) => Held::Yes,
            Ok(Some(why)) => Held::Skipped(why),
            Err(error) => Held::No(error.to_string()),
        };
        let ended = matches!(held, Held::No(_));
        findings.push(Finding { property, held });
        ended
    };
    note("the card has a name, a known rule and usable defaults", card(task).map(|()| None));
    let problems = match fixture_problems(task) {
        Ok(problems) => problems,
        Err(error) => {
            note("fixture rows give problems", Err(error));
            return findings;
        }
    };
    note("fixture rows give problems", Ok(None));
    note("ids are unique and begin with the task's name", ids(task, &problems).map(|()| None));
    note("every role gets a prompt", prompts(task, &problems).map(|()| None));
    let judge = Judge { task, execute };
    note("every reference solution passes its own verifier", references(&judge, &problems));
    note("an altered answer does not pass", altered(&judge, &problems));
    note("an empty completion does not pass", empty(&judge, &problems));
    note("steps are ordered, disjoint and on character boundaries", steps(task, &problems).map(|()| None));
    note(
        "the same question gets the same answer, also from eight threads",
        repeatable(task, &problems).map(|()| None),
    );
    note("a completion of a megabyte is answered", huge(task, &problems).map(|()| None));
    findings
}

/// Checks a reward model: one marker a step, finite rewards.
pub fn check_reward(reward: &dyn RewardModel) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |property, result: Result<()>| {
        let held = result.map_or_else(|error| Held::No(error.to_string()), |()| Held::Yes);
        findings.push(Finding { property, held });
    };
    let card = reward.card();
    note(
        "the name is well formed",
        match well_formed(&card.name) {
            true => Ok(()),
            false => Err(Error::new(format!("{:?}", card.name))),
        },
    );
    note("a layout has one place to read for each step", markers(reward));
    note(
        "rewards of ordinary scores are finite",
        [&[0.5_f32][..], &[0.0, 1.0], &[0.9, 0.1, 0.4]].iter().try_for_each(|scores| {
            let value = reward.aggregate(scores)?;
            if value.is_finite() { Ok(()) } else { Err(Error::new(format!("{scores:?} gave {value}"))) }
        }),
    );
    findings
}

/// The median time of a `verify` call over the fixtures, in seconds.
///
/// # Errors
/// When the fixtures or the call fail.
pub fn median_latency(task: &dyn Task) -> Result<f64> {
    let problems = fixture_problems(task)?;
    let mut times = Vec::new();
    for problem in problems.iter().cycle().take(problems.len().max(32)) {
        let completion = problem.solution.as_deref().unwrap_or("");
        let start = Instant::now();
        task.verify(problem, completion)?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().ok_or_else(|| Error::new("no fixture problems"))
}

/// The problems of a task's fixture rows.
///
/// # Errors
/// When a row is refused or there are no problems at all.
pub fn fixture_problems(task: &dyn Task) -> Result<Vec<Problem>> {
    let split = fixture_split(task)?;
    let mut problems = Vec::new();
    for row in task.fixtures()? {
        problems.extend(task.problems(&row, split)?);
    }
    if problems.is_empty() {
        return Err(Error::new("no fixture row gives a problem"));
    }
    Ok(problems)
}

/// The split that fixture rows are read as: the first the task has.
///
/// # Errors
/// When the task has no split at all.
pub fn fixture_split(task: &dyn Task) -> Result<Split> {
    for split in [Split::Train, Split::Test, Split::Validation] {
        if task.source(split)? != Source::Missing {
            return Ok(split);
        }
    }
    Err(Error::new("the task has neither a train, a test nor a validation split"))
}

fn card(task: &dyn Task) -> Result<()> {
    let card = task.card();
    if !well_formed(&card.name) {
        return Err(Error::new(format!("name {:?}: small letters, digits, dots and hyphens", card.name)));
    }
    if !card.rules.is_empty() && !card.rules.contains(&card.rule) {
        return Err(Error::new(format!("rule {:?} is not one of {:?}", card.rule, card.rules)));
    }
    if card.max_tokens == 0 || !card.temperature.is_finite() || card.temperature < 0.0 {
        return Err(Error::new("max_tokens must be positive and temperature not negative"));
    }
    Ok(())
}

fn ids(task: &dyn Task, problems: &[Problem]) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    let start = format!("{}/", task.card().name);
    for problem in problems {
        if !problem.id.starts_with(&start) {
            return Err(Error::new(format!("id {:?} does not begin with {start:?}", problem.id)));
        }
        if !seen.insert(&problem.id) {
            return Err(Error::new(format!("id {:?} stands twice", problem.id)));
        }
    }
    Ok(())
}

fn prompts(task: &dyn Task, problems: &[Problem]) -> Result<()> {
    for problem in problems {
        for role in [Role::Policy, Role::Simulator, Role::FewShot] {
            if task.prompt(problem, role)?.is_empty() {
                return Err(Error::new(format!("{}: the prompt for {role:?} is empty", problem.id)));
            }
        }
    }
    Ok(())
}

struct Judge<'a> {
    task: &'a dyn Task,
    execute: Option<&'a dyn Execute>,
}

impl Judge<'_> {
    /// The verdict, or `None` where a program would have to run and cannot.
    fn verdict(&self, problem: &Problem, completion: &str) -> Result<Option<Verdict>> {
        match (self.task.verify(problem, completion)?, self.execute) {
            (Check::Verdict(verdict), _) => Ok(Some(verdict)),
            (Check::Run(program), Some(execute)) => {
                let outcome = run_one(execute, program)?;
                self.task.judge(problem, &outcome).map(Some)
            }
            (Check::Run(_), None) => Ok(None),
        }
    }
}

fn run_one(execute: &dyn Execute, program: Program) -> Result<crate::Outcome> {
    let outcome = Mutex::new(None);
    execute.run(&[program], &AtomicBool::new(false), &|_, result| {
        if let Ok(mut place) = outcome.lock() {
            *place = Some(result);
        }
    });
    let found = outcome.into_inner().map_err(|_| Error::new("the sandbox panicked"))?;
    found.unwrap_or_else(|| Err(Error::new("the sandbox gave no outcome")))
}

const NO_SANDBOX: &str = "needs the sandbox: `sipf plugin check` brings it";

fn references(judge: &Judge<'_>, problems: &[Problem]) -> Result<Option<String>> {
    let mut with_solution = 0;
    for problem in problems {
        let Some(solution) = &problem.solution else { continue };
        with_solution += 1;
        match judge.verdict(problem, solution)? {
            None => return Ok(Some(NO_SANDBOX.into())),
            Some(verdict) if verdict.passed => {}
            Some(verdict) => {
                let why = verdict.message.or(verdict.answer).unwrap_or_default();
                return Err(Error::new(format!("{}: the reference solution fails: {why}", problem.id)));
            }
        }
    }
    Ok((with_solution == 0).then(|| "no fixture problem has a solution".into()))
}

fn altered(judge: &Judge<'_>, problems: &[Problem]) -> Result<Option<String>> {
    let mut tried = 0;
    for problem in problems {
        let (Some(solution), Some(answer)) = (&problem.solution, &problem.answer) else { continue };
        let Some(place) = solution.rfind(answer.as_str()) else { continue };
        let wrong = format!("{}{}7{}", &solution[..place], answer, &solution[place + answer.len()..]);
        let Some(verdict) = judge.verdict(problem, &wrong)? else { return Ok(Some(NO_SANDBOX.into())) };
        tried += 1;
        if verdict.passed {
            return Err(Error::new(format!("{}: passes with {answer}7 in place of {answer}", problem.id)));
        }
    }
    Ok((tried == 0).then(|| "no fixture problem has an answer that stands in its solution".into()))
}

fn empty(judge: &Judge<'_>, problems: &[Problem]) -> Result<Option<String>> {
    for problem in problems {
        match judge.verdict(problem, "")? {
            None => return Ok(Some(NO_SANDBOX.into())),
            Some(verdict) if verdict.passed => return Err(Error::new(format!("{}: passes", problem.id))),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// Whether the spans are ordered, disjoint, inside the text and on character boundaries.
///
/// # Errors
/// Names the first span that is not.
pub fn check_steps(completion: &str, steps: &[Step]) -> Result<()> {
    let mut last = 0;
    let mut chunk = 0;
    for (number, step) in steps.iter().enumerate() {
        let ordered = last <= step.start && step.start < step.end && step.end <= completion.len();
        if !ordered || !completion.is_char_boundary(step.start) || !completion.is_char_boundary(step.end) {
            return Err(Error::new(format!(
                "step {number} is bytes {}..{} of {}, after byte {last}",
                step.start,
                step.end,
                completion.len()
            )));
        }
        if step.chunk < chunk {
            return Err(Error::new(format!("step {number} goes back from chunk {chunk} to {}", step.chunk)));
        }
        (last, chunk) = (step.end, step.chunk);
    }
    Ok(())
}

fn steps(task: &dyn Task, problems: &[Problem]) -> Result<()> {
    let mut stream = Stream::new(7);
    let alphabet: Vec<char> = "ab 1=+<>#\n\n\t\r.é–💡\u{0}\"'`:".chars().collect();
    for problem in problems {
        let noise: String = (0..200).filter_map(|_| stream.pick(&alphabet).copied()).collect();
        for text in [problem.solution.as_deref().unwrap_or(""), noise.as_str(), ""] {
            let cleaned = task.clean(problem, text)?;
            let steps = task.steps(problem, &cleaned)?;
            check_steps(&cleaned, &steps).map_err(|error| error.context(&problem.id))?;
        }
    }
    Ok(())
}

/// Everything a task says about a problem and a completion, as JSON: for comparing transports and threads.
///
/// # Errors
/// When a call fails.
pub fn transcript(task: &dyn Task, row: &Row, split: Split) -> Result<String> {
    let mut lines = Vec::new();
    let mut put = |what: &str, value: serde_json::Value| lines.push(format!("{what} {value}"));
    put("card", serde_json::to_value(task.card())?);
    for problem in task.problems(row, split)? {
        put("problem", serde_json::to_value(&problem)?);
        for role in [Role::Policy, Role::Simulator, Role::FewShot] {
            put("prompt", task.prompt(&problem, role)?.into());
        }
        let solution = problem.solution.clone().unwrap_or_default();
        for completion in [solution.as_str(), "", "nothing <<1+1=3>> here\nThe answer is 12.\n"] {
            let cleaned = task.clean(&problem, completion)?;
            let check = task.verify(&problem, &cleaned)?;
            put("check", serde_json::to_value(&check)?);
            put("steps", serde_json::to_value(task.steps(&problem, &cleaned)?)?);
            put("answer", serde_json::to_value(task.answer(&cleaned)?)?);
            put("signature", serde_json::to_value(task.signature(&problem, &cleaned)?)?);
            put("step_truth", serde_json::to_value(task.step_truth(&problem, &cleaned)?)?);
            if let Check::Verdict(verdict) = check {
                put("measure", serde_json::to_value(task.measure(&problem, &cleaned, &verdict)?)?);
            }
        }
    }
    put("shots", serde_json::to_value(task.shots()?)?);
    Ok(lines.join("\n"))
}

fn repeatable(task: &dyn Task, problems: &[Problem]) -> Result<()> {
    let split = fixture_split(task)?;
    let rows = task.fixtures()?;
    let all = || rows.iter().map(|row| transcript(task, row, split)).collect::<Result<Vec<_>>>();
    let first = all()?;
    let others: Vec<Result<Vec<String>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(all)).collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(Error::new("a thread panicked"))))
            .collect()
    });
    for other in others {
        if other? != first {
            return Err(Error::new(format!("the answers for {} problems differ", problems.len())));
        }
    }
    Ok(())
}

fn huge(task: &dyn Task, problems: &[Problem]) -> Result<()> {
    let Some(problem) = problems.first() else { return Ok(()) };
    let text = "line of text <<2+2=4>>4\n".repeat(45_000);
    let cleaned = task.clean(problem, &text)?;
    task.verify(problem, &cleaned)?;
    check_steps(&cleaned, &task.steps(problem, &cleaned)?)
}

/// How many scores are read in a piece: at a marker, or at the marker's token in an assistant's turn.
fn places(marker: &Marker, piece: &Piece) -> usize {
    match (piece, marker) {
        (Piece::Marker, _) => 1,
        (Piece::Turn { role, text }, Marker::Token { token }) if role == "assistant" => {
            text.matches(token.as_str()).count()
        }
        _ => 0,
    }
}

fn markers(reward: &dyn RewardModel) -> Result<()> {
    let card = reward.card();
    let problem = Problem::new("sums/0", "What is 1 + 1, and twice that?");
    for steps in [&["1 + 1 = <<1+1=2>>2", "2 * 2 = <<2*2=4>>4"][..], &["4"], &["a", "b", "c"]] {
        let places: usize =
            reward.layout(&problem, steps)?.iter().map(|piece| places(&card.marker, piece)).sum();
        if places != steps.len() {
            return Err(Error::new(format!("{} steps, {places} places to read", steps.len())));
        }
    }
    Ok(())
}
