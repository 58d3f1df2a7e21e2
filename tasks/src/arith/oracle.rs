//! Which lines of a solution are right: judged by meaning, in any wording and any valid order.
//!
//! A line is right when its equation is one of the plan's, its inputs were derived before, it names the right
//! subject, and every line before it is right too.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::plan::{Outcome, Plan};
use super::wording;

/// What the oracle knows about a problem; kept in its `extra`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Truth {
    lines: Vec<TrueLine>,
    restated: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct TrueLine {
    left: i64,
    operator: String,
    right: i64,
    result: i64,
    /// Words that the line must hold.
    subject: Vec<String>,
    /// Lines that must stand before it.
    needs: Vec<usize>,
}

impl Truth {
    pub(super) fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let needs = plan.needs();
        let place = |step: usize| outcome.worked.iter().position(|worked| worked.step == step);
        let lines = outcome
            .worked
            .iter()
            .map(|worked| TrueLine {
                left: worked.left,
                operator: plan.steps[worked.step].operator.symbol().to_string(),
                right: worked.right,
                result: worked.result,
                subject: words(&plan.steps[worked.step].subject).map(str::to_owned).collect(),
                needs: needs[worked.step].iter().filter_map(|step| place(*step)).collect(),
            })
            .collect();
        Self { lines, restated: wording::restatements(&plan.facts) }
    }

    /// For every line: whether it and all before it are right; and whether nothing is missing at the end.
    pub(super) fn judge<'a>(&self, lines: impl Iterator<Item = &'a str>) -> (Vec<bool>, bool) {
        let mut done = vec![false; self.lines.len()];
        let mut right = true;
        let mut flags = Vec::new();
        for line in lines {
            right = right && self.accepts(line, &mut done);
            flags.push(right);
        }
        (flags, right && done.iter().all(|done| *done))
    }

    fn accepts(&self, line: &str, done: &mut [bool]) -> bool {
        static EQUATION: LazyLock<Regex> = LazyLock::new(|| {
            let pattern = r"<<([0-9]+)([-+*/])([0-9]+)=([0-9]+)>>([0-9]+)";
            Regex::new(pattern).unwrap_or_else(|error| unreachable!("{pattern}: {error}"))
        });
        let mut equations = EQUATION.captures_iter(line);
        let Some(equation) = equations.next() else {
            return self.restated.iter().any(|restated| restated == line);
        };
        if equations.next().is_some() || equation[4] != equation[5] {
            return false;
        }
        let number = |group: usize| equation[group].parse::<i64>().ok();
        let (Some(left), Some(right), Some(result)) = (number(1), number(3), number(4)) else { return false };
        let held: BTreeSet<&str> = words(line).collect();
        let found = self.lines.iter().enumerate().position(|(place, truth)| {
            let commutes = matches!(truth.operator.as_str(), "+" | "*");
            let operands = (left, right) == (truth.left, truth.right)
                || commutes && (right, left) == (truth.left, truth.right);
            !done[place]
                && equation[2] == *truth.operator
                && operands
                && result == truth.result
                && truth.subject.iter().all(|word| held.contains(word.as_str()))
                && truth.needs.iter().all(|need| done.get(*need) == Some(&true))
        });
        if let Some(place) = found {
            done[place] = true;
        }
        found.is_some()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}
