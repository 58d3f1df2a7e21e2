//! Sampling over a scripted policy: what is kept is a function of the attempts' numbers alone.

use std::sync::atomic::AtomicBool;

use sipf_plugin::TaskCard;
use sipf_plugin::random::Stream;

use super::*;
use crate::generate::scripted::Scripted;
use crate::toy;

/// Texts by a drawn number; the task knows the right answer of `sums/N` is 3 N + 1.
fn policy() -> Scripted<impl Fn(u64, &str) -> String + Send + Sync> {
    Scripted::new(|stream, prompt| {
        let first: usize =
            prompt["Q: ".len()..].split(' ').next().expect("a number").parse().expect("a number");
        let right = 3 * first + 1;
        match (Stream::at(stream, 0) * 8.0) as usize {
            0 => format!("a\n#### {right}"),
            1 => format!("b\n#### {right}"),
            2 => format!("c\n#### {right}"),
            3 => "d\n#### 0".into(),
            4 => "e\n#### 0".into(),
            5 => format!("=1\nlong words {stream}\n#### {right}"),
            6 => format!("=1\n#### {right}"),
            _ => "f\n#### 0".into(),
        }
    })
}

fn settings(wave: usize, max_attempts: usize) -> SampleSettings {
    SampleSettings { wave, max_attempts, ..SampleSettings::default() }
}

fn draw_with(
    policy: &dyn Generator,
    problems: &[Problem],
    quotas: &[Quota],
    known: &[Sample],
    iteration: u64,
    settings: &SampleSettings,
    lanes: usize,
) -> Result<Vec<Unit<Sample>>> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("samples.jsonl");
    let verifier = toy::verifier();
    let input = SampleInput { policy, verifier: &verifier, problems, quotas, known, iteration, seed: 7 };
    let target = Target { file: &file, key: "k", lanes };
    run(&input, settings, target, &AtomicBool::new(false), &Progress::quiet())
}

fn rows(units: &[Unit<Sample>]) -> Vec<Sample> {
    units.iter().flat_map(|unit| unit.rows.clone()).collect()
}

/// One question drawn from a list of texts, attempt by attempt.
fn of_texts(texts: &[&str], quota: Quota, filter: EquationFilter) -> Vec<Sample> {
    let of_stream: std::collections::BTreeMap<u64, String> = (0..texts.len() as u64)
        .map(|index| {
            let name =
                StreamName { seed: 7, stage: "sample", iteration: 0, problem: "sums/0", step: 0, index };
            (name.key(), texts[index as usize].to_owned())
        })
        .collect();
    let policy = Scripted::new(move |stream, _| of_stream[&stream].clone());
    let settings = SampleSettings { equation_filter: filter, ..settings(texts.len(), texts.len()) };
    rows(&draw_with(&policy, &[toy::problem(0)], &[quota], &[], 0, &settings, 1).expect("samples"))
}

fn fates(rows: &[Sample]) -> Vec<&str> {
    rows.iter().map(|row| row.dropped_because.as_deref().unwrap_or("kept")).collect()
}

#[test]
fn what_is_kept_depends_neither_on_waves_nor_pieces_nor_lanes() {
    let problems: Vec<Problem> = (0..150).map(toy::problem).collect();
    let quotas: Vec<Quota> = (0..150).map(|n| Quota { positives: 1 + n % 3, negatives: n % 4 }).collect();
    let policy = policy();
    let plain = draw_with(&policy, &problems, &quotas, &[], 0, &settings(1, 20), 1).expect("samples");
    assert_eq!(plain.len(), 150);
    for (wave, lanes) in [(1, 2), (3, 1), (7, 2), (20, 2)] {
        let other =
            draw_with(&policy, &problems, &quotas, &[], 0, &settings(wave, 20), lanes).expect("samples");
        assert_eq!(rows(&other), rows(&plain), "wave {wave}, lanes {lanes}");
        assert!(other.iter().zip(&plain).all(|(other, plain)| other.tokens >= plain.tokens));
    }
    for (unit, quota) in plain.iter().zip(&quotas) {
        let kept = |passed| unit.rows.iter().filter(|row| row.kept && row.passed == passed).count();
        assert!(kept(true) <= quota.positives && kept(false) <= quota.negatives);
        let full = kept(true) == quota.positives && kept(false) == quota.negatives;
        assert!(full || unit.rows.len() == 20, "drawn until the quotas are met or the attempts used up");
        // The last attempt is the one that met them.
        assert!(!full || unit.rows.last().is_none_or(|row| row.kept));
    }
}

#[test]
fn a_run_with_a_quota_of_nothing_draws_nothing() {
    let policy = policy();
    let none = Quota { positives: 0, negatives: 0 };
    let units = draw_with(&policy, &[toy::problem(1)], &[none], &[], 0, &settings(4, 8), 1).expect("samples");
    assert!(units[0].rows.is_empty());
    assert_eq!(policy.requests(), 0);
}

#[test]
fn quotas_hold_for_right_and_wrong_apart_and_duplicates_are_named() {
    let texts = ["a\n#### 1", "a\n#### 1", "b\n#### 1", "x\n#### 2", "x\n#### 2", "y\n#### 2", "c\n#### 1"];
    let found = of_texts(&texts, Quota { positives: 1, negatives: 2 }, EquationFilter::Off);
    assert_eq!(
        fates(&found),
        ["kept", "duplicate of sums/0#0.0", "quota", "kept", "duplicate of sums/0#0.3", "kept"]
    );
    assert!(found.iter().zip(0..).all(|(row, index)| row.index == index && row.iteration == 0));
    assert_eq!(found[0].id, "sums/0#0.0");
    assert_eq!(found[0].answer.as_deref(), Some("1"));
    assert_eq!(found[0].step_texts().expect("steps"), ["a"]);
    assert_eq!(found[0].tokens, 8);
    let counts = SampleCounts::of(&found);
    assert_eq!((counts.attempts, counts.right, counts.kept_right, counts.kept_wrong), (6, 3, 1, 2));
    assert_eq!((counts.duplicates, counts.over_quota, counts.without_right), (2, 1, 0));
}

#[test]
fn of_equal_equations_the_text_farther_from_the_others_takes_the_place() {
    let texts = ["=1\nabc\n#### 1", "=2\nabd\n#### 1", "=1\nsomething else\n#### 1", "=1\nabd\n#### 1"];
    let found = of_texts(&texts, Quota::ALL, EquationFilter::Off);
    assert_eq!(fates(&found), ["duplicate of sums/0#0.2", "kept", "kept", "duplicate of sums/0#0.2"]);
    // The same equations with another answer are another path.
    let found = of_texts(&["=1\n#### 1", "=1\n#### 2"], Quota::ALL, EquationFilter::Off);
    assert_eq!(fates(&found), ["kept", "kept"]);
}

#[test]
fn a_false_equation_costs_the_path_only_where_the_filter_covers_both_sides() {
    let texts = ["=1 false\n#### 1", "=2\n#### 1"];
    for (filter, fate) in [
        (EquationFilter::Off, "kept"),
        (EquationFilter::Chosen, "kept"),
        (EquationFilter::Both, "false equation"),
    ] {
        let found = of_texts(&texts, Quota::ALL, filter);
        assert_eq!(fates(&found), [fate, "kept"]);
        assert_eq!(found[0].flaw.as_deref(), Some("false equation"));
    }
}

#[test]
fn rows_that_a_plugin_fails_on_are_dropped_and_the_rest_goes_on() {
    let found =
        of_texts(&["boom", "run", "a\n#### 1"], Quota { positives: 1, negatives: 1 }, EquationFilter::Off);
    assert_eq!(found[0].dropped_because.as_deref(), Some("failed: sums/0: boom"));
    assert_eq!(found[1].dropped_because.as_deref(), Some("no verdict: unsupported"));
    assert!(!found[1].kept && !found[1].passed && found[2].kept);
    let counts = SampleCounts::of(&found);
    assert_eq!((counts.failed, counts.no_verdict), (1, 1));
}

#[test]
fn a_question_without_a_prompt_is_one_failed_row() {
    let policy = policy();
    let problem = Problem::new("sums/x", "unwritable");
    let problems = [problem, toy::problem(2)];
    let units = draw_with(&policy, &problems, &[Quota::ALL; 2], &[], 0, &settings(2, 2), 1).expect("samples");
    assert_eq!(fates(&units[0].rows), ["failed: no prompt"]);
    assert_eq!(units[1].rows.len(), 2);
}

#[test]
fn a_plugin_that_is_of_no_use_any_more_ends_the_stage() {
    let policy = Scripted::new(|_, _| "the end".into());
    let error = draw_with(&policy, &[toy::problem(0)], &[Quota::ALL], &[], 0, &settings(1, 1), 1)
        .expect_err("a fatal failure")
        .to_string();
    assert!(error.contains("not called any more"), "{error}");
}

#[test]
fn later_iterations_draw_anew_and_keep_nothing_twice() {
    let problems: Vec<Problem> = (0..20).map(toy::problem).collect();
    let quotas = vec![Quota::ALL; 20];
    let policy = policy();
    let first = rows(&draw_with(&policy, &problems, &quotas, &[], 0, &settings(6, 6), 1).expect("samples"));
    let second = draw_with(&policy, &problems, &quotas, &first, 1, &settings(6, 6), 1).expect("samples");
    let second = rows(&second);
    assert_ne!(
        first.iter().map(|row| &row.completion).collect::<Vec<_>>(),
        second.iter().map(|row| &row.completion).collect::<Vec<_>>(),
        "another iteration has other random streams"
    );
    let earlier = |row: &Sample| {
        first.iter().any(|old| old.kept && old.problem == row.problem && old.completion == row.completion)
    };
    assert!(second.iter().any(earlier));
    for row in &second {
        assert_eq!(row.iteration, 1);
        assert!(!(row.kept && earlier(row)), "{} was kept before", row.id);
    }
}

#[test]
fn quotas_that_do_not_fit_the_questions_are_refused() {
    let policy = policy();
    let error =
        draw_with(&policy, &[toy::problem(0)], &[], &[], 0, &settings(1, 1), 1).expect_err("no quota");
    assert_eq!(error.to_string(), "0 quotas for 1 questions");
    let error = draw_with(&policy, &[], &[], &[], 0, &settings(0, 1), 1).expect_err("an empty wave");
    assert!(error.to_string().contains("wave is 0"), "{error}");
}

#[test]
fn the_task_s_card_fills_in_the_settings() {
    let card =
        TaskCard::new("x", sipf_plugin::Domain::Code).temperature(0.7).quotas(25, 24).equation_filter("both");
    let settings = SampleSettings::of(&card).expect("settings");
    assert_eq!((settings.temperature, settings.positives, settings.negatives), (0.7, 25, 24));
    assert_eq!(settings.equation_filter, EquationFilter::Both);
    assert!(SampleSettings::of(&card.equation_filter("some")).is_err());
}
