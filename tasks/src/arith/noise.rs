//! Noisy demonstrations: misreadings that give true equations of a wrong plan, and a few slips of the pen.

use sipf_plugin::random::Stream;

use super::plan::{Misreading, Plan};
use super::wording::{self, Habit};

/// How often a step that can be misread is.
const MISREAD: f32 = 0.35;
/// How often a result is off.
const SLIP: f32 = 0.02;
const SLIPS: [i64; 6] = [-10, -2, -1, 1, 2, 10];
/// Misread plans whose numbers do not work out are drawn again this often.
const ATTEMPTS: usize = 20;

fn misread(plan: &Plan, stream: &mut Stream) -> Plan {
    let mut plan = plan.clone();
    for place in 0..plan.steps.len() {
        let Some(misreading) = plan.steps[place].misreading else { continue };
        if !stream.chance(MISREAD) {
            continue;
        }
        match misreading {
            Misreading::As(operator) => plan.steps[place].operator = operator,
            Misreading::From(source) => plan.steps[place].left = source,
            Misreading::Skipped => plan.steps[place].off = true,
            Misreading::Superfluous => plan.steps[place].off = false,
            Misreading::BeforeTheNext => {
                let (step, next) = (plan.steps[place].clone(), plan.steps[place + 1].clone());
                plan.steps[place].operator = next.operator;
                plan.steps[place].right = next.right;
                plan.steps[place + 1].operator = step.operator;
                plan.steps[place + 1].right = step.right;
            }
        }
    }
    plan
}

/// A demonstration by somebody who misreads and slips; the right one where no attempt works out.
pub(super) fn demonstration(plan: &Plan, answer: &str, stream: &mut Stream) -> String {
    for _ in 0..ATTEMPTS {
        let misread = misread(plan, stream);
        let mut slip = |result| match stream.chance(SLIP) {
            true => result + stream.pick(&SLIPS).copied().unwrap_or(1),
            false => result,
        };
        let Some(outcome) = misread.work(&mut slip) else { continue };
        let lines = wording::write(stream, Habit::Varied, &misread, &outcome);
        let mut tie = |sides: usize| stream.below(sides as u32) as usize;
        if let Some(answer) = misread.conclude(&outcome, Some(&mut tie)) {
            return super::solution(&lines, &answer);
        }
    }
    match plan.work(&mut |result| result) {
        Some(outcome) => super::solution(&wording::write(stream, Habit::Varied, plan, &outcome), answer),
        None => super::solution(&[], answer),
    }
}
