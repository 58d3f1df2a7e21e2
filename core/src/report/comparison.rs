//! Models held against one another: by rule, with several answers, and problem by problem.

use std::collections::BTreeMap;

use serde_json::Value;

use super::escape::html;
use super::page::{Arm, percent};
use super::sections::{heads, more, table, words};
use crate::evaluate::metric::mcnemar;

/// Shares by every answer rule, and what several samples of a problem give together.
pub(super) fn rules_and_votes(arms: &[Arm<'_>]) -> String {
    let share =
        |arm: &Arm<'_>, pointer: &str| arm.iteration.evaluation.pointer(pointer).and_then(Value::as_f64);
    let keys = |name: &str| {
        let mut found: Vec<String> = Vec::new();
        for arm in arms {
            for key in arm.iteration.evaluation.get(name).and_then(Value::as_object).into_iter().flatten() {
                if !found.contains(key.0) {
                    found.push(key.0.clone());
                }
            }
        }
        found
    };
    let columns = |columns: Vec<(String, String)>| -> String {
        let there: Vec<(String, String)> = columns
            .into_iter()
            .filter(|(_, pointer)| arms.iter().any(|arm| share(arm, pointer).is_some()))
            .collect();
        if there.len() < 2 {
            return String::new();
        }
        let rows: Vec<Vec<String>> = arms
            .iter()
            .map(|arm| {
                let cell = |(_, pointer): &(String, String)| {
                    share(arm, pointer).map_or_else(|| "\u{2013}".into(), percent)
                };
                std::iter::once(html(&arm.name)).chain(there.iter().map(cell)).collect()
            })
            .collect();
        let head: Vec<String> =
            std::iter::once("model".into()).chain(there.iter().map(|(name, _)| html(name))).collect();
        table(&head, &rows)
    };
    let rules = keys("by_rule").into_iter().map(|rule| (format!("rule {rule}"), format!("/by_rule/{rule}")));
    let by_rule = columns(rules.collect());
    let mut several: Vec<(String, String)> =
        keys("pass_at_k").into_iter().map(|k| (format!("pass@{k}"), format!("/pass_at_k/{k}"))).collect();
    let greedy = keys("greedy_pass_at_k").into_iter();
    several.extend(greedy.map(|k| (format!("pass@{k}, greedy"), format!("/greedy_pass_at_k/{k}"))));
    for (name, key) in
        [("majority", "majority"), ("best by reward", "best_of_n"), ("reward vote", "reward_vote")]
    {
        several.push((name.to_owned(), format!("/{key}")));
    }
    let several = columns(several);
    let mut text = String::new();
    if !by_rule.is_empty() {
        text.push_str(&format!("<h3>By each answer rule</h3>{by_rule}"));
    }
    if !several.is_empty() {
        text.push_str(&format!(
            "<h3>With several samples of a problem</h3><p class=\"note\">pass@k: one of k is right; the others pick one answer \
             of all samples.</p>{several}"
        ));
    }
    text
}

/// Every model against M0, the one before and the control: the run's own task, the others folded away.
pub(super) fn tables(arms: &[Arm<'_>], tasks: &[String]) -> String {
    let found = |place: usize, task: &str| match place {
        0 => of_evaluations(arms, None),
        _ => of_evaluations(arms, Some(task)),
    };
    let all: Vec<(usize, &String, String)> =
        tasks.iter().enumerate().map(|(place, task)| (place, task, found(place, task))).collect();
    if all.iter().all(|(.., body)| body.is_empty()) {
        return of_answers(arms);
    }
    let mut text = String::from(
        "<h3>The same problems, one by one</h3><p class=\"note\">Differences in points between two models on the same problems \
         with the same random numbers, \u{b1} one standard error over problems. Greedy answers: how many became right, how many \
         wrong, and McNemar's exact p.</p>",
    );
    for (place, task, body) in all.into_iter().filter(|(.., body)| !body.is_empty()) {
        text.push_str(&match place {
            0 => body,
            _ => more(&format!("Out of domain: {}", html(task)), &body),
        });
    }
    text
}

/// The names of the models that an evaluation was held against, as the page has them.
fn shown(name: &str, arm: &str) -> String {
    let number = |name: &str, start: &str| name.strip_prefix(start)?.parse::<usize>().ok();
    match (number(name, "iter-"), number(arm, "M")) {
        (Some(number), _) => format!("M{number}"),
        (None, Some(own)) if name == "previous" && own > 0 => format!("M{}", own - 1),
        _ => name.to_owned(),
    }
}

fn signed(points: f64) -> String {
    format!("{}{:.1}", if points < 0.0 { "\u{2212}" } else { "+" }, points.abs())
}

fn p_value(p: f64) -> String {
    if p < 0.001 { format!("{p:.0e}") } else { format!("{p:.3}") }
}

/// From `against` in the evaluations; `None` is the run's own task.
fn of_evaluations(arms: &[Arm<'_>], task: Option<&str>) -> String {
    let mut rows: Vec<(String, &Value)> = Vec::new();
    for arm in arms {
        let evaluation = match task {
            None => Some(&arm.iteration.evaluation),
            Some(task) => arm.iteration.evaluation.get("transfer").and_then(|all| all.get(task)),
        };
        let against = evaluation.and_then(|found| found.get("against")).and_then(Value::as_object);
        for (name, comparison) in against.into_iter().flatten() {
            rows.push((format!("{} against {}", html(&arm.name), html(&shown(name, &arm.name))), comparison));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let mut measures: Vec<&String> = Vec::new();
    for (_, comparison) in &rows {
        for (name, _) in comparison.get("measures").and_then(Value::as_object).into_iter().flatten() {
            if !measures.contains(&name) {
                measures.push(name);
            }
        }
    }
    let mut head = heads(&["models", "problems", "greedy", "gained / lost", "McNemar p", "sampled"]);
    head.extend(measures.iter().map(|name| html(&words(name).to_lowercase())));
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|(models, comparison)| {
            let dash = || "\u{2013}".to_owned();
            let number = |pointer: &str| comparison.pointer(pointer).and_then(Value::as_f64);
            let difference = |pointer: &str| {
                let mean = number(&format!("{pointer}/difference"))?;
                let error = number(&format!("{pointer}/stderr"))?;
                Some(format!("{} \u{b1} {:.1}", signed(mean * 100.0), error * 100.0))
            };
            let changed = number("/greedy/gained").zip(number("/greedy/lost"));
            let mut row = vec![
                models.clone(),
                number("/problems").map_or_else(dash, |n| n.to_string()),
                difference("/greedy").unwrap_or_else(dash),
                changed.map_or_else(dash, |(gained, lost)| format!("{gained} / {lost}")),
                number("/greedy/mcnemar_p").map_or_else(dash, p_value),
                difference("/sampled").unwrap_or_else(dash),
            ];
            row.extend(
                measures.iter().map(|name| difference(&format!("/measures/{name}")).unwrap_or_else(dash)),
            );
            row
        })
        .collect();
    table(&head, &cells)
}

/// Where the evaluations hold no comparisons: from the greedy answers themselves.
fn of_answers(arms: &[Arm<'_>]) -> String {
    let mut rows = Vec::new();
    for (place, arm) in arms.iter().enumerate().skip(1) {
        let mut against = vec![0];
        if place > 1 && arm.name != "control" {
            against.push(place - 1);
        }
        let control = arms.iter().position(|arm| arm.name == "control");
        against.extend(control.filter(|control| *control != place));
        for other in against {
            for (task, answers) in &arm.iteration.answers {
                let Some(before) = arms[other].iteration.answers.get(task) else { continue };
                let was: BTreeMap<&str, bool> =
                    before.iter().map(|a| (a.problem.as_str(), a.passed)).collect();
                let both = answers.iter().filter_map(|a| Some((*was.get(a.problem.as_str())?, a.passed)));
                let (mut gained, mut lost, mut n) = (0, 0, 0);
                for (then, now) in both {
                    n += 1;
                    gained += usize::from(!then && now);
                    lost += usize::from(then && !now);
                }
                if n > 0 {
                    let p = mcnemar(gained, lost);
                    let p = p_value(p);
                    let change = (gained as f64 - lost as f64) / n as f64 * 100.0;
                    rows.push(vec![
                        format!("{} against {}", html(&arm.name), html(&arms[other].name)),
                        html(task),
                        n.to_string(),
                        gained.to_string(),
                        lost.to_string(),
                        signed(change),
                        p,
                    ]);
                }
            }
        }
    }
    match rows.is_empty() {
        true => String::new(),
        false => {
            let head = heads(&["models", "task", "problems", "gained", "lost", "points", "McNemar p"]);
            format!(
                "<h3>The same problems, one by one</h3><p class=\"note\">Greedy answers: how many problems became right, how many wrong.</p>{}",
                table(&head, &rows)
            )
        }
    }
}
