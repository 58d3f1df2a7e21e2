//! Simulation over a scripted simulator: early labels are the labels of all rollouts, whatever runs together.

use std::sync::atomic::AtomicBool;

use sipf_plugin::random::Stream;

use super::*;
use crate::generate::scripted::Scripted;
use crate::record::{Label, Sample};
use crate::toy;

/// Right with a chance that the last given step names; `run` gives no verdict, `boom` fails.
fn simulator() -> Scripted<impl Fn(u64, &str) -> String + Send + Sync> {
    Scripted::new(|stream, prompt| {
        let question = prompt.strip_prefix("Go on: ").expect("the simulator's prompt");
        let first: usize = question.split(' ').next().expect("a number").parse().expect("a number");
        let last = prompt.trim_end().lines().last().expect("a line");
        let chance: f32 = last.split(' ').next_back().expect("a chance").parse().expect("a chance");
        let draw = Stream::at(stream, 0);
        match last {
            _ if last.contains("unsupported") => "run".into(),
            _ if last.contains("fails") && draw < 0.5 => "boom".into(),
            _ if draw < chance => format!("#### {}", 3 * first + 1),
            _ => "#### 0".into(),
        }
    })
}

fn path(problem: usize, index: usize, completion: &str, passed: bool) -> Sample {
    let question = toy::problem(problem);
    let task = toy::verifier();
    let steps = task.task().steps(&question, completion).expect("steps");
    Sample {
        id: format!("{}#0.{index}", question.id),
        problem: question.id,
        completion: completion.into(),
        passed,
        steps,
        kept: true,
        ..Sample::default()
    }
}

fn label(
    samples: &[Sample],
    problems: &[Problem],
    settings: &SimulateSettings,
    lanes: usize,
) -> (Vec<Unit<StepLabels>>, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("labels.jsonl");
    let (simulator, verifier) = (simulator(), toy::verifier());
    let selection = select(problems, samples, settings, 5);
    let input = SimulateInput {
        simulator: &simulator,
        name: "scripted",
        verifier: &verifier,
        paths: &selection.paths,
        seed: 5,
    };
    let target = Target { file: &file, key: "k", lanes };
    let units = run(&input, settings, target, &AtomicBool::new(false), &Progress::quiet()).expect("labels");
    (units, simulator.requests())
}

fn many() -> (Vec<Problem>, Vec<Sample>) {
    let problems: Vec<Problem> = (0..70).map(toy::problem).collect();
    let samples = (0..70)
        .flat_map(|problem| {
            (0..3).map(move |index| {
                let [a, b, c] = [0.0, 0.05, 0.3].map(|chance| chance * index as f32 + 0.02);
                path(problem, index, &format!("one {a}\ntwo {b}\n\nthree {c}\n#### 0"), false)
            })
        })
        .collect();
    (problems, samples)
}

#[test]
fn early_labels_are_the_labels_of_all_rollouts_for_fewer_rollouts() {
    let (problems, samples) = many();
    for threshold in [0, 2] {
        let early = SimulateSettings { threshold, gold: false, ..SimulateSettings::default() };
        let full = SimulateSettings { full_counts: true, ..early.clone() };
        let (early, early_rollouts) = label(&samples, &problems, &early, 2);
        let (full, full_rollouts) = label(&samples, &problems, &full, 1);
        assert_eq!(full_rollouts, 210 * 3 * 8);
        assert!(early_rollouts < full_rollouts);
        let mut decided_late = 0;
        for (early, full) in early.iter().zip(&full) {
            let (early, full) = (&early.rows[0], &full.rows[0]);
            assert_eq!((&early.sample, &early.labels), (&full.sample, &full.labels));
            for (early, full) in early.steps.iter().zip(&full.steps) {
                assert_eq!(full.tried, 8);
                assert!(early.tried <= 8 && early.right <= full.right);
                assert!(early.low <= early.high);
                decided_late += usize::from(early.tried > threshold + 1 && early.right > threshold);
            }
        }
        assert!(decided_late > 0, "some label was decided by a later rollout");
        let rows: Vec<&StepLabels> = early.iter().flat_map(|unit| &unit.rows).collect();
        let counts = LabelCounts::of(rows);
        assert_eq!((counts.paths, counts.steps, counts.gold), (210, 630, 0));
        assert_eq!((counts.rollouts, counts.full_rollouts), (early_rollouts as u64, full_rollouts as u64));
    }
}

#[test]
fn labels_do_not_depend_on_what_runs_together() {
    let (problems, samples) = many();
    let settings = SimulateSettings { gold: false, ..SimulateSettings::default() };
    let (all, _) = label(&samples, &problems, &settings, 2);
    let alone: Vec<StepLabels> = (0..6)
        .flat_map(|place| label(&samples[place..place + 1], &problems, &settings, 1).0)
        .flat_map(|unit| unit.rows)
        .collect();
    let together: Vec<StepLabels> = all.into_iter().take(6).flat_map(|unit| unit.rows).collect();
    assert_eq!(together, alone);
}

#[test]
fn rows_hold_texts_spans_and_what_the_reward_model_is_asked() {
    let problems = [toy::problem(4)];
    let samples = [path(4, 0, "sure 1\nnever 0\n#### 13", true)];
    let (units, rollouts) = label(&samples, &problems, &SimulateSettings::default(), 1);
    assert_eq!(rollouts, 1 + 8);
    let row = &units[0].rows[0];
    assert_eq!(row.completions, ["sure 1", "never 0"]);
    assert_eq!(row.labels, [Label::Hard(true), Label::Hard(false)]);
    assert_eq!((row.simulator.as_str(), row.k), ("scripted", 8));
    assert_eq!((row.prompt.as_str(), row.question.as_deref()), ("4 + 9?", Some("4 + 9?")));
    let told: Vec<(u32, u32, f32)> =
        row.steps.iter().map(|step| (step.tried, step.right, step.label)).collect();
    assert_eq!(told, [(1, 1, 1.0), (8, 0, 0.0)]);
    let gold = &units[1].rows[0];
    assert_eq!((gold.sample.as_str(), gold.simulator.as_str(), gold.k), ("sums/4#gold", GOLD, 0));
    assert_eq!(gold.completions, ["first 4", "then 9"]);
    assert_eq!(gold.labels, [Label::Hard(true); 2]);
    let soft = SimulateSettings { soft_labels: true, gold: false, ..SimulateSettings::default() };
    let (units, rollouts) = label(&samples, &problems, &soft, 1);
    assert_eq!((units[0].rows[0].labels[0], rollouts), (Label::Soft(1.0), 16));
}

#[test]
fn steps_of_a_chunk_share_their_rollouts() {
    let problems = [toy::problem(1)];
    let mut sample = path(1, 0, "a 1\nb 0\nc 1\n#### 4", true);
    for (step, chunk) in sample.steps.iter_mut().zip([0, 0, 3]) {
        step.chunk = chunk;
    }
    let settings = SimulateSettings { gold: false, ..SimulateSettings::default() };
    let (units, rollouts) = label(&[sample], &problems, &settings, 1);
    assert_eq!(rollouts, 8 + 1, "the first chunk begins after b");
    let labels = &units[0].rows[0].labels;
    assert_eq!(*labels, [Label::Hard(false), Label::Hard(false), Label::Hard(true)]);
    assert_eq!(LabelCounts::of(&units[0].rows).full_rollouts, 16);
}

#[test]
fn rollouts_without_a_verdict_count_neither_way_and_a_step_with_nothing_else_costs_the_path() {
    let problems = [toy::problem(1), toy::problem(2)];
    let samples = [path(1, 0, "fails 0\n#### 4", true), path(2, 0, "unsupported 1\n#### 7", true)];
    let settings = SimulateSettings { gold: false, ..SimulateSettings::default() };
    let (units, _) = label(&samples, &problems, &settings, 1);
    let step = units[0].rows[0].steps[0];
    assert!(step.tried > 0 && step.tried < 8 && step.right == 0, "{step:?}");
    assert!(units[1].rows.is_empty());
    assert!(units[1].tokens > 0);
}

#[test]
fn right_and_wrong_paths_are_taken_in_turn_and_easy_guesses_left_out() {
    let problems = [toy::problem(0), toy::problem(1).chance(0.5), toy::problem(2)];
    let samples: Vec<Sample> = (0..3)
        .flat_map(|problem| (0..8).map(move |index| path(problem, index, &format!("x {index}"), index > 1)))
        .collect();
    let settings = SimulateSettings { gold: false, ..SimulateSettings::default() };
    let selection = select(&problems, &samples, &settings, 1);
    assert_eq!((selection.questions, selection.too_easy_to_guess, selection.paths.len()), (2, 1, 8));
    let right = |paths: &[Path<'_>]| {
        paths.iter().filter(|path| matches!(path, Path::Drawn { sample, .. } if sample.passed)).count()
    };
    assert_eq!([right(&selection.paths[..4]), right(&selection.paths[4..])], [2, 2]);
    let six = SimulateSettings { paths_per_question: 6, ..settings.clone() };
    assert_eq!(right(&select(&problems, &samples, &six, 1).paths[..6]), 4, "only two are wrong");
    let one = SimulateSettings { questions: 1, paths_per_question: 0, ..settings };
    let drawn: Vec<usize> = (0..20).map(|seed| select(&problems, &samples, &one, seed).paths.len()).collect();
    assert_eq!(drawn, [8; 20]);
    let first = |seed| match select(&problems, &samples, &one, seed).paths[0] {
        Path::Drawn { problem, .. } | Path::Gold { problem } => problem.id.clone(),
    };
    assert!((0..20).any(|seed| first(seed) != first(0)), "the seed decides");
}

#[test]
fn an_outcome_is_copied_to_every_step() {
    let problems = [toy::problem(0)];
    let samples = [path(0, 0, "a\nb\n#### 1", true), path(0, 1, "c\n#### 2", false)];
    let selection = select(&problems, &samples, &SimulateSettings::default(), 1);
    let rows = by_outcome(&selection.paths, &toy::Sums).expect("rows");
    let labels: Vec<Vec<Label>> = rows.iter().map(|row| row.labels.clone()).collect();
    assert_eq!(labels, [vec![Label::Hard(true); 2], vec![Label::Hard(false)], vec![Label::Hard(true); 2]]);
}

#[test]
fn a_threshold_that_no_step_can_pass_is_refused() {
    let settings = SimulateSettings { threshold: 8, ..SimulateSettings::default() };
    assert!(settings.check().expect_err("out of reach").to_string().contains("threshold is 8"));
}
