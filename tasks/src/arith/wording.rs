//! A worked plan as text: several wordings a step, either order of independent steps, operands either way round.

use sipf_plugin::random::Stream;

use super::plan::{Fact, Kind, Operand, Outcome, Plan, PlanStep, Worked};

/// How often each wording is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// The first wording most often, the others ever less (rank to the power of -1.2).
    Steady,
    /// All equally.
    Varied,
}

/// Ways to state a step; `{s}` is the subject, `{E}` the equation with its result, `{u}` the unit.
fn wordings(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Holding => &[
            "{s} has {E} {u}.",
            "Now {s} has {E} {u}.",
            "{E} {u} for {s}.",
            "That makes {E} {u} for {s}.",
            "So {s} is at {E} {u}.",
        ],
        Kind::Cost => &[
            "The {s} cost {E} dollars.",
            "{E} dollars for the {s}.",
            "For the {s} it is {E} dollars.",
            "Paying the {s} takes {E} dollars.",
        ],
        Kind::Total => &[
            "{s} {E} {u} in total.",
            "{s} together {E} {u}.",
            "Adding up, {s} {E} {u}.",
            "{E} {u} in all, {s}.",
        ],
        Kind::Daily => &[
            "{s} has {E} {u}.",
            "This gives {s} {E} {u}.",
            "{E} {u} then for {s}.",
            "We get {E} {u} for {s}.",
        ],
        Kind::Store => &[
            "In store {s} it is {E} dollars.",
            "Store {s}: {E} dollars.",
            "{E} dollars in store {s}.",
            "Then store {s} asks {E} dollars.",
        ],
    }
}

const RESTATING: [&str; 3] =
    ["{s} starts with {E} {u}.", "At first {s} has {E} {u}.", "We know {s} has {E} {u}."];

fn fill(wording: &str, subject: &str, value: &str, unit: &str) -> String {
    wording.replace("{s}", subject).replace("{u}", unit).replace("{E}", value)
}

fn pick(stream: &mut Stream, habit: Habit, wordings: &[&'static str]) -> &'static str {
    // 1000 / rank^1.2, as whole numbers so that every machine draws the same.
    const STEADY: [u32; 5] = [1000, 435, 268, 189, 145];
    let weight = |rank: usize| if habit == Habit::Steady { STEADY[rank.min(4)] } else { 1 };
    let mut left = stream.below((0..wordings.len()).map(weight).sum());
    for (rank, wording) in wordings.iter().enumerate() {
        if left < weight(rank) {
            return wording;
        }
        left -= weight(rank);
    }
    wordings[0]
}

/// Every way to restate what the question gives.
pub(super) fn restatements(facts: &[Fact]) -> Vec<String> {
    facts
        .iter()
        .flat_map(|(who, number, unit)| {
            RESTATING.iter().map(move |wording| fill(wording, who, &number.to_string(), unit))
        })
        .collect()
}

fn restating(stream: &mut Stream, habit: Habit, plan: &Plan, step: &PlanStep) -> Option<String> {
    let Operand::Given(number) = step.left else { return None };
    let known = plan
        .facts
        .iter()
        .any(|(who, given, unit)| (who, *given, unit) == (&step.subject, number, &step.unit));
    (step.kind == Kind::Holding && known && stream.chance(0.2))
        .then(|| fill(pick(stream, habit, &RESTATING), &step.subject, &number.to_string(), &step.unit))
}

fn line(stream: &mut Stream, habit: Habit, step: &PlanStep, worked: &Worked) -> String {
    let wording = pick(stream, habit, wordings(step.kind));
    let turned = if habit == Habit::Steady { 0.25 } else { 0.4 };
    let (mut left, mut right) = (worked.left, worked.right);
    if step.operator.commutes() && stream.chance(turned) {
        (left, right) = (right, left);
    }
    let equation =
        format!("<<{left}{}{right}={result}>>{result}", step.operator.symbol(), result = worked.result);
    fill(wording, &step.subject, &equation, &step.unit)
}

/// One wording and one order of a worked plan, a line a step.
pub(super) fn write(stream: &mut Stream, habit: Habit, plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let needs = plan.needs();
    let in_order = stream.chance(0.5);
    let mut left: Vec<&Worked> = outcome.worked.iter().collect();
    let mut done: Vec<usize> = Vec::new();
    let mut lines = Vec::new();
    while !left.is_empty() {
        let ready: Vec<usize> = (0..left.len())
            .filter(|place| needs[left[*place].step].iter().all(|need| done.contains(need)))
            .collect();
        // Plans only read earlier steps, so the first one left is always ready.
        let place = if in_order { ready[0] } else { ready[stream.below(ready.len() as u32) as usize] };
        let worked = left.remove(place);
        let step = &plan.steps[worked.step];
        done.push(worked.step);
        lines.extend(restating(stream, habit, plan, step));
        lines.push(line(stream, habit, step, worked));
    }
    lines
}
