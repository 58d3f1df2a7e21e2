//! The page: its first screen, then a section for each question a reader has.

use serde_json::Value;

use super::chart::number;
use super::escape::{html, script};
use super::read::{Headline, Iteration, Run, numbers};
use super::sections;
use super::{Options, browser};

/// One model that was evaluated.
pub(super) struct Arm<'a> {
    /// `M0`, `M1`, ..., `control`.
    pub(super) name: String,
    pub(super) iteration: &'a Iteration,
    pub(super) headlines: Vec<(String, Headline)>,
}

impl Arm<'_> {
    pub(super) fn headline(&self, task: &str) -> Option<&Headline> {
        self.headlines.iter().find(|(name, _)| name == task).map(|(_, headline)| headline)
    }
}

/// The models in order, the control last.
pub(super) fn arms(run: &Run) -> Vec<Arm<'_>> {
    let task = run.task();
    let of =
        |name: String, iteration| Arm { name, iteration, headlines: Iteration::headlines(iteration, &task) };
    let trained =
        run.iterations.iter().enumerate().map(|(number, iteration)| of(format!("M{number}"), iteration));
    trained.chain(run.control.iter().map(|iteration| of("control".into(), iteration))).collect()
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn points(difference: f64) -> String {
    format!("{}{:.1}", if difference < 0.0 { "\u{2212}" } else { "+" }, difference.abs() * 100.0)
}

/// The whole page.
pub(super) fn page(run: &Run, options: &Options) -> String {
    let arms = arms(run);
    let task = run.task();
    let rounds = run.iterations.len().saturating_sub(1);
    let title = match rounds {
        0 => format!("{task}: before the first iteration"),
        1 => format!("{task}: one round of self-improvement"),
        n => format!("{task}: {n} rounds of self-improvement"),
    };
    let shown = browser::Questions::of(run, options.all_questions);
    let sections: Vec<(&str, &str, String)> = [
        ("accuracy", "Accuracy", sections::accuracy(run, &arms)),
        ("data", "Data", sections::data(run)),
        ("reward", "Step labels and reward model", sections::reward(run)),
        ("training", "Training", sections::training(run)),
        ("cost", "Cost", sections::cost(run, options)),
        ("questions", "Questions", questions(&shown)),
        ("settings", "Settings", sections::settings(run)),
    ]
    .into_iter()
    .filter(|(.., body)| !body.is_empty())
    .collect();
    let links: String =
        sections.iter().map(|(id, name, _)| format!("<a href=\"#{id}\">{name}</a>")).collect();
    let bodies: String = sections
        .iter()
        .map(|(id, name, body)| format!("<section id=\"{id}\"><h2>{name}</h2>{body}</section>\n"))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#accuracy\">Skip to the results</a>\n<div class=\"page\">\n\
         <header class=\"top\"><p class=\"kicker\">SIPF report</p><h1>{title}</h1>{}</header>\n\
         {}{}<nav aria-label=\"Sections\">{links}</nav>\n<main>\n{bodies}</main>\n\
         <footer class=\"end\">Made by sipf{} from the files of the run alone. Everything in monospace was written by a \
         model or belongs to a data set.</footer>\n</div>\n\
         <script type=\"application/json\" id=\"run-data\">{}</script>\n<script>\n{}</script>\n</body>\n</html>\n",
        include_str!("style.css"),
        lead(run, &arms),
        skipped(run),
        tiles(run, &arms),
        version(run),
        script(&shown.shown),
        include_str!("browser.js"),
        title = html(&title),
    )
}

fn version(run: &Run) -> String {
    let version =
        ["program_version", "version", "program"].iter().find_map(|key| run.manifest.get(key)?.as_str());
    version.map(|version| format!(" {}", html(version.trim_start_matches("sipf ")))).unwrap_or_default()
}

/// What was done, in one sentence.
fn lead(run: &Run, arms: &[Arm<'_>]) -> String {
    let name = |key: &str| {
        run.setting(key).filter(|value| !value.is_empty()).map(|v| format!("<strong>{}</strong>", html(v)))
    };
    let rewarded = run.iterations.iter().any(|iteration| !iteration.scores.is_empty());
    let mut text = format!("Policy {}", name("model").unwrap_or_else(|| "of the run".into()));
    for (key, word) in
        [("reward-model", "reward model"), ("simulator", "simulator"), ("method", "method"), ("seed", "seed")]
    {
        if let Some(value) = name(key).filter(|_| key != "reward-model" || rewarded) {
            text.push_str(&format!(", {word} {value}"));
        }
    }
    let problems = arms.iter().find_map(|arm| Some(arm.headline(&run.task())?.problems)).unwrap_or(0.0);
    if problems > 0.0 {
        text.push_str(&format!("; judged on {} held-out problems", number(problems)));
    }
    format!(
        "<p class=\"lead\">{text}. M0 is the model after supervised fine-tuning; every M after it learned from preference pairs over its predecessors' own reasoning.</p>"
    )
}

/// Stages that had nothing to do, and why.
fn skipped(run: &Run) -> String {
    let stages = run.manifest.get("skipped").and_then(Value::as_object).into_iter().flatten();
    let told: String = stages
        .filter_map(|(stage, why)| Some((stage, why.as_str()?)))
        .map(|(stage, why)| format!("<li><strong>{}</strong>: {}</li>", html(stage), html(why)))
        .collect();
    match told.is_empty() {
        true => told,
        false => format!("<div class=\"notice\"><p>Not everything was done:</p><ul>{told}</ul></div>\n"),
    }
}

/// The story in numbers: first to last, and against the control.
fn tiles(run: &Run, arms: &[Arm<'_>]) -> String {
    let task = run.task();
    let trained: Vec<&Arm<'_>> = arms.iter().filter(|arm| arm.name != "control").collect();
    let control = arms.iter().find(|arm| arm.name == "control").and_then(|arm| arm.headline(&task));
    let mut found = Vec::new();
    let mut change = |what: &str, pick: &dyn Fn(&Headline) -> Option<f64>| {
        let values: Vec<(&str, f64)> =
            trained.iter().filter_map(|arm| Some((arm.name.as_str(), pick(arm.headline(&task)?)?))).collect();
        let (Some((first, from)), Some((last, to))) = (values.first(), values.last()) else { return };
        let mut note = String::from("the starting point");
        let mut big = percent(*to);
        if values.len() > 1 {
            let class = if to >= from { "up" } else { "down" };
            big = format!("{} <small>from {}</small>", percent(*to), percent(*from));
            note = format!("<span class=\"{class}\">{} points</span>, {first} to {last}", points(to - from));
            if let Some(other) = control.and_then(pick) {
                let class = if *to >= other { "up" } else { "down" };
                note.push_str(&format!(
                    "<br><span class=\"{class}\">{}</span> against control",
                    points(to - other)
                ));
            }
        }
        found.push((what.to_owned(), big, note));
    };
    change("Greedy accuracy", &|headline| headline.accuracy);
    change("Sampled accuracy", &|headline| headline.sampled);
    for name in sections::measure_names(arms, &task) {
        let title = match arms
            .iter()
            .any(|arm| arm.headline(&task).is_some_and(|headline| sections::is_sampled(headline, &name)))
        {
            true => format!("{}, sampled", sections::words(&name)),
            false => sections::words(&name),
        };
        change(&title, &|headline| sections::measure(headline, &name));
    }
    let samples: usize = run.iterations.iter().map(|iteration| iteration.samples.len()).sum();
    let pairs: usize = run.iterations.iter().map(|iteration| iteration.pairs.len()).sum();
    if samples > 0 {
        let right = run.iterations.iter().flat_map(|i| &i.samples).filter(|sample| sample.passed).count();
        let note = format!("{} of them right", percent(right as f64 / samples as f64));
        found.push(("Reasoning paths sampled".into(), number(samples as f64), note));
    }
    if pairs > 0 {
        found.push((
            "Preference pairs".into(),
            number(pairs as f64),
            format!("over {} iterations", trained.len() - 1),
        ));
    }
    let steps: usize = run.labels.iter().map(|labels| labels.steps.len()).sum();
    if steps > 0 {
        let rollouts: u64 =
            run.labels.iter().flat_map(|labels| &labels.steps).map(|s| u64::from(s.tried)).sum();
        found.push((
            "Steps labelled".into(),
            number(steps as f64),
            format!("by {} rollouts", number(rollouts as f64)),
        ));
    }
    let quality = numbers(&run.quality);
    if let Some((_, auc)) = quality.iter().find(|(name, _)| name.ends_with("auc")) {
        found.push(("Reward model's step AUC".into(), format!("{auc:.3}"), "chance is 0.5".into()));
    }
    let tile = |(what, big, note): &(String, String, String)| {
        format!("<div class=\"tile\"><p>{}</p><p class=\"big\">{big}</p><p>{note}</p></div>", html(what))
    };
    match found.is_empty() {
        true => String::new(),
        false => format!("<div class=\"tiles\">{}</div>\n", found.iter().map(tile).collect::<String>()),
    }
}

fn questions(shown: &browser::Questions) -> String {
    let which = match shown.count() == shown.total {
        true => "Every question".to_owned(),
        false => format!(
            "{} of {} questions, evenly spaced so that the page opens quickly (<code>sipf report RUN --all-questions --out \
             F.html</code> shows all), each",
            shown.count(),
            shown.total
        ),
    };
    format!(
        "<p>{which} with every sampled path: steps, rollouts, reward scores, verdict and pairs, and what each model \
     answered greedily. Arrow keys move through the list.</p>\
     <noscript><p>The browser of questions needs JavaScript; everything above does not.</p></noscript>\
     <div class=\"tools\"><input id=\"find\" type=\"search\" placeholder=\"Find in ids and questions\" aria-label=\"Find a question\">\
     <select id=\"only\" aria-label=\"Which questions\"><option value=\"all\">all questions</option>\
     <option value=\"pairs\">with preference pairs</option><option value=\"labels\">with step labels</option>\
     <option value=\"mixed\">right and wrong paths</option><option value=\"never\">never right</option>\
     <option value=\"gained\">M0 wrong, last right</option><option value=\"lost\">M0 right, last wrong</option></select>\
     <span id=\"count\" role=\"status\"></span></div>\
     <div class=\"browser\"><div id=\"list\" role=\"group\" aria-label=\"Questions\"></div>\
     <div id=\"detail\" tabindex=\"0\" aria-live=\"polite\" aria-label=\"The chosen question\"></div></div>"
    )
}
