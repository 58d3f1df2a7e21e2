//! The sections of the page: one function each; an empty text leaves the section out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::chart::{self, Plot, Point, Series, Unit, number};
use super::escape::html;
use super::page::{Arm, percent};
use super::read::{Headline, Run, Sample, numbers};
use super::statistics::{auc, calibration};
use super::{Options, comparison};
use crate::evaluate::metric::{Mean, wilson};

/// Words of a name: `fully_right` is "Fully right".
pub(super) fn words(name: &str) -> String {
    let text = name.replace(['_', '.', '/'], " ");
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The task's own measures, in order of their names.
pub(super) fn measure_names(arms: &[Arm<'_>], task: &str) -> Vec<String> {
    let headlines = arms.iter().filter_map(|arm| arm.headline(task));
    let names: BTreeSet<String> = headlines.flat_map(|headline| headline.measures.keys().cloned()).collect();
    names.into_iter().collect()
}

/// A measure's value: the sampled mean where greedy and sampled are told apart.
pub(super) fn measure(headline: &Headline, name: &str) -> Option<f64> {
    let value = headline.measures.get(name)?;
    let inner = ["sampled", "mean", "value", "greedy"].iter().find_map(|key| value.get(key)?.as_f64());
    value.as_f64().or(inner)
}

/// Whether [`measure`] is over samples.
pub(super) fn is_sampled(headline: &Headline, name: &str) -> bool {
    headline.measures.get(name).is_some_and(|value| value.get("sampled").is_some())
}

/// The 95 % interval of a measure's sampled mean, where its error is given.
fn measure_interval(headline: &Headline, name: &str) -> Option<(f64, f64)> {
    let value = headline.measures.get(name)?;
    let (value, error) = (value.get("sampled")?.as_f64()?, value.get("sampled_stderr")?.as_f64()?);
    let mean = Mean { value, error, clusters: headline.problems as usize };
    Some(mean.interval())
}

pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let cells = |row: &[String], tag: &str| {
        row.iter().map(|cell| format!("<{tag}>{cell}</{tag}>")).collect::<String>()
    };
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>", cells(row, "td"))).collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>{}</tr></thead><tbody>{rows}</tbody></table></div>\n",
        cells(head, "th")
    )
}

pub(super) fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn more(summary: &str, body: &str) -> String {
    format!("<details class=\"more\"><summary>{summary}</summary>{body}</details>\n")
}

/// One series of a quantity over the models, the control as a series of its own.
fn over_models(
    arms: &[Arm<'_>],
    name: &str,
    class: &'static str,
    pick: &dyn Fn(&Arm<'_>) -> Option<(f64, Option<(f64, f64)>)>,
) -> Vec<Series> {
    let mut trained = Vec::new();
    let mut control = Vec::new();
    for (x, arm) in arms.iter().enumerate() {
        if let Some((y, range)) = pick(arm) {
            let point = Point { x: x as f64, y, range };
            if arm.name == "control" { control.push(point) } else { trained.push(point) }
        }
    }
    let series = |name: &str, class, points: Vec<Point>| Series {
        name: name.into(),
        class,
        points,
        line: true,
        dots: true,
        values: true,
    };
    let mut found = Vec::new();
    if !trained.is_empty() {
        found.push(series(name, class, trained));
    }
    if !control.is_empty() {
        found.push(series("control", "d", control));
    }
    found
}

type Pick<'p> = &'p dyn Fn(&Headline) -> Option<(f64, Option<(f64, f64)>)>;

/// How right the models are: in and out of domain, and question by question.
pub(super) fn accuracy(run: &Run, arms: &[Arm<'_>]) -> String {
    let task = run.task();
    let names: Vec<String> = arms.iter().map(|arm| arm.name.clone()).collect();
    let tasks: Vec<String> = {
        let all: BTreeSet<&String> =
            arms.iter().flat_map(|arm| arm.headlines.iter().map(|(name, _)| name)).collect();
        let others = all.into_iter().filter(|name| **name != task).cloned();
        std::iter::once(task.clone()).chain(others).collect()
    };
    let plot = |title: &str, series: Vec<Series>| {
        chart::plot(
            &Plot {
                title,
                x_title: "model",
                y_title: "95 % intervals over problems",
                unit: Unit::Percent,
                names: names.clone(),
                y_range: None,
            },
            &series,
        )
    };
    let mut charts = String::new();
    for (number, name) in tasks.iter().enumerate() {
        let suffix = if number == 0 { String::new() } else { format!(" on {name}, out of domain") };
        let of = |pick: Pick<'_>| {
            over_models(arms, "after iteration", if number == 0 { "a" } else { "c" }, &|arm| {
                let headline = arm.headline(name)?;
                let (value, interval) = pick(headline)?;
                let over_problems = || (headline.problems > 0.0).then(|| wilson(value, headline.problems));
                Some((value, interval.or_else(over_problems)))
            })
        };
        let greedy = of(&|headline| Some((headline.accuracy?, headline.interval)));
        charts.push_str(&plot(&format!("Greedy accuracy{suffix}"), greedy));
        if number == 0 {
            let sampled = of(&|headline| Some((headline.sampled?, headline.sampled_interval)));
            charts.push_str(&plot("Sampled accuracy, temperature 1", sampled));
            for measured in measure_names(arms, name) {
                let sampled =
                    arms.iter().filter_map(|arm| arm.headline(name)).any(|h| is_sampled(h, &measured));
                let title = if sampled { format!("{}, sampled", words(&measured)) } else { words(&measured) };
                let share = of(&|headline| {
                    let value = measure(headline, &measured).filter(|v| (0.0..=1.0).contains(v))?;
                    Some((value, measure_interval(headline, &measured)))
                });
                charts.push_str(&plot(&title, share));
            }
        }
    }
    if charts.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "<p>Iterations are shown as they came; none was picked by its score.</p><div class=\"charts\">{charts}</div>"
    );
    text.push_str(&comparison::rules_and_votes(arms));
    text.push_str(&comparison::tables(arms, &tasks));
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (place, arm) in arms.iter().enumerate() {
        let all = numbers(&arm.iteration.evaluation);
        for (name, value) in all.into_iter().filter(|(name, _)| !name.contains("settings.")) {
            let row = rows.entry(name).or_insert_with(|| vec![String::new(); arms.len()]);
            row[place] = format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned();
        }
    }
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(name, values)| std::iter::once(html(&name)).chain(values).collect()).collect();
    let head: Vec<String> = std::iter::once("number".to_owned()).chain(names).collect();
    text + &more("Every number of the evaluations", &table(&head, &rows))
}

/// Why a path was dropped, without what differs from path to path.
fn reason(sample: &Sample) -> String {
    let Some(why) = &sample.dropped_because else { return "not kept".into() };
    let kinds = [("duplicate", "duplicate"), ("quota", "over the quota"), ("no verdict", "no verdict")];
    let kind = kinds.iter().find(|(start, _)| why.starts_with(start)).map(|(_, kind)| *kind);
    match sample.flaw.as_ref() == Some(why) {
        true => "flaw that the filter found".into(),
        false => kind.unwrap_or("other").into(),
    }
}

/// What was sampled, kept, labelled and paired (the paper's Tables 6 and 7).
pub(super) fn data(run: &Run) -> String {
    let mut rows = Vec::new();
    let (mut seen, mut sampled, mut paired) = (BTreeSet::new(), Vec::new(), Vec::new());
    let mut dropped: BTreeMap<String, usize> = BTreeMap::new();
    let mut total = 0;
    for (number, iteration) in run.iterations.iter().enumerate() {
        let (samples, pairs) = (&iteration.samples, &iteration.pairs);
        let right = samples.iter().filter(|sample| sample.passed && sample.kept).count();
        let kept = samples.iter().filter(|sample| sample.kept).count();
        seen.extend(samples.iter().map(|sample| sample.problem.as_str()));
        for sample in samples.iter().filter(|sample| !sample.kept) {
            *dropped.entry(reason(sample)).or_default() += 1;
        }
        total += kept;
        let paired_questions: BTreeSet<&str> = pairs.iter().map(|pair| pair.problem.as_str()).collect();
        let margin = pairs.iter().map(|p| p.chosen_reward - p.rejected_reward).sum::<f64>()
            / pairs.len().max(1) as f64;
        let dash = |there: bool, text: String| if there { text } else { "\u{2013}".to_owned() };
        rows.push(vec![
            format!("M{number}"),
            dash(!samples.is_empty(), samples.len().to_string()),
            dash(!samples.is_empty(), format!("{right} / {}", kept - right)),
            total.to_string(),
            dash(!pairs.is_empty(), pairs.len().to_string()),
            dash(!pairs.is_empty(), paired_questions.len().to_string()),
            dash(!pairs.is_empty(), format!("{margin:.2}")),
        ]);
        if !samples.is_empty() {
            sampled.push((format!("M{number} right"), right as f64, "a"));
            sampled.push((format!("M{number} wrong"), (kept - right) as f64, "b"));
        }
        if !pairs.is_empty() {
            paired.push((format!("for M{number}"), pairs.len() as f64, "c"));
        }
    }
    if total == 0 && paired.is_empty() {
        return String::new();
    }
    let head = heads(&[
        "model",
        "paths sampled from it",
        "kept right / wrong",
        "pool so far",
        "pairs it learned from",
        "questions in them",
        "mean margin",
    ]);
    let mut text = format!(
        "<p>{} questions were sampled. Every model adds paths to the pool; the next one learns from pairs over the whole pool.</p>",
        seen.len()
    );
    text.push_str(&table(&head, &rows));
    let reasons: Vec<(String, f64, &'static str)> =
        dropped.into_iter().map(|(why, count)| (why, count as f64, "d")).collect();
    let charts = [
        chart::bars("Paths kept", "by the model that wrote them", &sampled),
        chart::bars("Preference pairs", "that each model learned from", &paired),
        chart::bars("Paths dropped", "and why", &reasons),
    ];
    text + &format!("<div class=\"charts\">{}</div>", charts.concat())
}

/// What rollouts say of steps, and how well the reward model agrees.
pub(super) fn reward(run: &Run) -> String {
    let scores: BTreeMap<&str, &[f64]> = run
        .iterations
        .iter()
        .flat_map(|iteration| &iteration.scores)
        .map(|row| (row.sample.as_str(), row.scores.as_slice()))
        .collect();
    let mut steps = Vec::new();
    for labels in &run.labels {
        let scored = scores.get(labels.sample.as_str()).copied().unwrap_or_default();
        steps.extend(labels.steps.iter().zip(scored).map(|(label, score)| (*score, label.label > 0.5)));
    }
    let all = || run.labels.iter().flat_map(|labels| &labels.steps);
    let (count, right) = (all().count(), all().filter(|step| step.label > 0.5).count());
    let tried: u64 = all().map(|step| u64::from(step.tried)).sum();
    let most: u64 = run.labels.iter().map(|labels| u64::from(labels.k) * labels.steps.len() as u64).sum();
    let rewards: BTreeMap<&str, f64> = run
        .iterations
        .iter()
        .flat_map(|iteration| &iteration.scores)
        .map(|row| (row.sample.as_str(), row.reward))
        .collect();
    let paths = || run.iterations.iter().flat_map(|iteration| &iteration.samples);
    let of = |passed: bool| -> Vec<f64> {
        paths().filter(|s| s.passed == passed).filter_map(|s| rewards.get(s.id.as_str()).copied()).collect()
    };
    let (good, bad) = (of(true), of(false));
    let quality = numbers(&run.quality);
    if count == 0 && good.is_empty() && bad.is_empty() && quality.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<p>A step is labelled right when rollouts from it reach the right answer; the reward model learns those labels and scores every path by the mean of its steps.</p>",
    );
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    if count > 0 {
        row("labelled paths", run.labels.len().to_string());
        row("labelled steps", count.to_string());
        row("steps labelled right", percent(right as f64 / count as f64));
        row("rollouts", tried.to_string());
        if most > tried && most > 0 {
            row("rollouts saved by stopping early", percent(1.0 - tried as f64 / most as f64));
        }
    }
    if let Some(area) = auc(&steps) {
        let agree = steps.iter().filter(|(score, label)| (*score >= 0.5) == *label).count();
        row("step AUC against the labels it learned from", format!("{area:.3}"));
        row("agreement at 0.5 with those labels", percent(agree as f64 / steps.len() as f64));
    }
    let plain = |name: &str, class, points, line| Series {
        name: name.into(),
        class,
        points,
        line,
        dots: true,
        values: false,
    };
    let bins = calibration(&steps);
    let curve: Vec<Point> = bins
        .iter()
        .map(|bin| Point { x: bin.score, y: bin.right, range: Some(wilson(bin.right, bin.count as f64)) })
        .collect();
    let calibrated = match bins.len() > 1 {
        true => chart::plot(
            &Plot {
                title: "Calibration",
                x_title: "step score",
                y_title: "share of steps labelled right, by score; the dotted line is perfect",
                unit: Unit::Percent,
                names: Vec::new(),
                y_range: Some((0.0, 1.0)),
            },
            &[
                plain("labelled right", "a", curve, true),
                Series {
                    dots: false,
                    ..plain(
                        "perfect",
                        "ideal",
                        [0.0, 1.0].map(|x| Point { x, y: x, range: None }).to_vec(),
                        true,
                    )
                },
            ],
        ),
        false => String::new(),
    };
    let spread = chart::distributions(
        "Rewards of whole paths",
        "by the verdict on their final answer",
        "reward",
        [("right answer", "a", &good), ("wrong answer", "b", &bad)],
    );
    text.push_str(&format!("<div class=\"charts\">{spread}{calibrated}</div>"));
    text + &table(&heads(&["number", "value"]), &rows) + &quality_table(&run.quality)
}

/// The quality file: a column for what is known of the steps, another for held-out labels where there are any.
fn quality_table(quality: &Value) -> String {
    let labels = quality.get("against_labels").unwrap_or(&Value::Null);
    let mut names: Vec<String> = Vec::new();
    for (name, _) in numbers(quality).into_iter().chain(numbers(labels)) {
        if !name.starts_with("against_labels") && !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let both = labels.is_object();
    let title = |name: &str| words(name).replace("auc", "AUC").replace("Auc", "AUC");
    let rows: Vec<Vec<String>> = names
        .iter()
        .map(|name| {
            let cell = |value: &Value| {
                let found = numbers(value).into_iter().find(|(known, _)| known == name);
                found.map_or_else(|| "\u{2013}".into(), |(_, value)| number(value))
            };
            let mut row = vec![html(&title(name)), cell(quality)];
            row.extend(both.then(|| cell(labels)));
            row
        })
        .collect();
    let truth = quality.get("truth").and_then(Value::as_str).unwrap_or("what is known of the steps");
    let mut head = heads(&["how good its scores are", "value"]);
    if both {
        head.push("by held-out labels".into());
    }
    format!(
        "<h3>How good the scores are</h3><p class=\"note\">Compared with: {}.</p>{}",
        html(truth),
        table(&head, &rows)
    )
}

/// Metrics over steps, at most 200 points, neighbours averaged.
fn curve(rows: &[Value], key: &str) -> Vec<Point> {
    let values: Vec<(f64, f64)> = rows
        .iter()
        .enumerate()
        .filter_map(|(n, row)| {
            let x = row.get("step").and_then(Value::as_f64).unwrap_or(n as f64);
            Some((x, row.get(key)?.as_f64()?))
        })
        .collect();
    let size = values.len().div_ceil(200).max(1);
    values
        .chunks(size)
        .map(|part| {
            let n = part.len() as f64;
            let (x, y) = part.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
            Point { x, y, range: None }
        })
        .collect()
}

/// Log-probabilities of chosen and rejected paths (the paper's Figure 3), and the losses.
pub(super) fn training(run: &Run) -> String {
    let plot = |title: &str, y_title: &str, series: Vec<(&str, &'static str, Vec<Point>)>| {
        let series: Vec<Series> = series
            .into_iter()
            .filter(|(.., points)| points.len() > 1)
            .map(|(name, class, points)| Series {
                name: name.into(),
                class,
                points,
                line: true,
                dots: false,
                values: false,
            })
            .collect();
        match series.is_empty() {
            true => String::new(),
            false => chart::plot(
                &Plot {
                    title,
                    x_title: "step",
                    y_title,
                    unit: Unit::Plain,
                    names: Vec::new(),
                    y_range: None,
                },
                &series,
            ),
        }
    };
    let mut charts = String::new();
    for (number, iteration) in run.iterations.iter().enumerate() {
        let rows = &iteration.metrics;
        charts.push_str(&plot(
            &format!("M{number}: chosen and rejected"),
            "mean log-probability of a token",
            vec![
                ("chosen", "a", curve(rows, "logps/chosen")),
                ("rejected", "b", curve(rows, "logps/rejected")),
            ],
        ));
    }
    for (number, iteration) in run.iterations.iter().enumerate() {
        let share = curve(&iteration.metrics, "rewards/accuracies");
        charts.push_str(&plot(
            &format!("M{number}: chosen above rejected"),
            "share of pairs",
            vec![("share", "c", share)],
        ));
    }
    charts.push_str(&plot(
        "M0: fine-tuning loss",
        "nats a token",
        vec![("loss", "d", curve(&run.sft, "loss"))],
    ));
    charts.push_str(&plot(
        "Reward model: loss",
        "cross-entropy of a step",
        vec![("loss", "d", curve(&run.reward, "loss"))],
    ));
    match charts.is_empty() {
        true => String::new(),
        false => format!(
            "<p>How far chosen paths rise above rejected ones while each model is trained.</p><div class=\"charts\">{charts}</div>"
        ),
    }
}

/// A manifest's stages by name: a list of objects with names, or an object of objects.
fn stages(value: &Value) -> Vec<(String, &Value)> {
    let inner = value.get("stages").unwrap_or(value);
    match inner {
        Value::Array(items) => items
            .iter()
            .filter_map(|item| {
                let name = item.get("name").or_else(|| item.get("stage"))?.as_str()?;
                Some((name.to_owned(), item))
            })
            .collect(),
        Value::Object(map) => {
            map.iter().filter(|(_, item)| item.is_object()).map(|(name, item)| (name.clone(), item)).collect()
        }
        _ => Vec::new(),
    }
}

/// Tokens and FLOPs by stage; seconds only in the copy that asks for them.
pub(super) fn cost(run: &Run, options: &Options) -> String {
    let mut text = String::new();
    let mut columns: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    for (stage, value) in stages(&run.manifest) {
        for (name, value) in numbers(value) {
            let short = name.rsplit('.').next().unwrap_or(&name).to_owned();
            if short.contains("token") || short.contains("flop") {
                columns.entry(short).or_default().push((stage.clone(), value));
            }
        }
    }
    let mut charts = String::new();
    for (name, rows) in &columns {
        let class = if name.contains("flop") { "c" } else { "a" };
        let rows: Vec<(String, f64, &'static str)> =
            rows.iter().map(|(stage, value)| (stage.clone(), *value, class)).collect();
        let total: f64 = rows.iter().map(|row| row.1).sum();
        let title = words(name).replace("flops", "FLOPs").replace("Flops", "FLOPs");
        charts.push_str(&chart::bars(&title, &format!("{} in all", number(total)), &rows));
    }
    if !charts.is_empty() {
        text.push_str(&format!(
            "<p>Work by stage, in units that no machine changes.</p><div class=\"charts\">{charts}</div>"
        ));
    }
    if options.times {
        let mut rows = Vec::new();
        for (stage, value) in stages(&run.timings) {
            let values = numbers(value);
            let of = |part: &str| {
                let found =
                    values.iter().find(|(name, _)| name.contains(part)).map(|(_, v)| format!("{v:.1}"));
                found.unwrap_or_else(|| "\u{2013}".into())
            };
            rows.push(vec![html(&stage), of("wall"), of("cpu")]);
        }
        if !rows.is_empty() {
            text.push_str(&format!("<h3>Seconds</h3>{}", table(&heads(&["stage", "wall", "CPU"]), &rows)));
        }
    }
    text
}

/// Every resolved setting.
pub(super) fn settings(run: &Run) -> String {
    let rows: String = run
        .settings
        .iter()
        .map(|(name, value)| {
            format!("<tr><td>{}</td><td class=\"text\">{}</td></tr>", html(name), html(value))
        })
        .collect();
    let table = format!("<div class=\"scroll\" tabindex=\"0\"><table><tbody>{rows}</tbody></table></div>");
    format!(
        "<p>As resolved when the run began.</p>{}",
        more(&format!("{} settings", run.settings.len()), &table)
    )
}
