//! Evaluations of a scripted model on a toy task: every number can be worked out by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use sipf_plugin::{
    Check, Domain, Measure, Metric, Problem, Result as PluginResult, Role, Row, Source, Split, Task,
    TaskCard, Verdict,
};

use super::metric::{mcnemar, wilson};
use super::*;
use crate::generate::{Completion, Feed, Finish, Usage};
use crate::model::Tokenizer;
use crate::record;

/// Asks for the same word again. Words 7, 8 and 9 have problems that cannot be cleaned, judged and asked.
struct Echo;

impl Task for Echo {
    fn card(&self) -> TaskCard {
        TaskCard::new("echo", Domain::Other).rules(["same", "any"]).stop(["w0"]).max_tokens(5)
    }
    fn source(&self, _: Split) -> PluginResult<Source> {
        Ok(Source::Generated)
    }
    fn problems(&self, row: &Row, split: Split) -> PluginResult<Vec<Problem>> {
        let word = format!("w{}", row.index);
        Ok(vec![Problem::new(format!("echo/{split}/{}", row.index), &word).answer(&word).solution(&word)])
    }
    fn prompt(&self, problem: &Problem, role: Role) -> PluginResult<String> {
        match (problem.question.as_str(), role) {
            ("w9", _) => Err("it cannot be asked".into()),
            (word, Role::FewShot) => Ok(format!("{word} ")),
            (word, _) => Ok(word.into()),
        }
    }
    fn clean(&self, problem: &Problem, raw: &str) -> PluginResult<String> {
        match problem.question.as_str() {
            "w7" => Err("it cannot be cleaned".into()),
            _ => Ok(raw.trim().to_owned()),
        }
    }
    fn verify(&self, problem: &Problem, completion: &str) -> PluginResult<Check> {
        if problem.question == "w8" {
            return Err("it cannot be judged".into());
        }
        let answer = (!completion.is_empty()).then(|| completion.to_owned());
        let passed = answer == problem.answer;
        let by_rule = [("same".to_owned(), passed), ("any".to_owned(), answer.is_some())].into();
        Ok(Check::Verdict(Verdict { passed, by_rule, answer, message: None }))
    }
    fn measure(&self, _: &Problem, completion: &str, _: &Verdict) -> PluginResult<Vec<Measure>> {
        Ok(vec![Measure { name: "letters".into(), value: completion.len() as f64 }])
    }
    fn shots(&self) -> PluginResult<Vec<Problem>> {
        Ok(vec![Problem::new("shot/0", "w1").solution("w1"), Problem::new("shot/1", "w2").solution("w2")])
    }
}

/// Answers by a function of the last word of the prompt and the random stream, in an order of its own.
struct Script {
    tokenizer: Tokenizer,
    says: fn(u32, u64, bool) -> String,
    backwards: bool,
    calls: AtomicUsize,
    /// Sets the stop flag at this call.
    stops_at: usize,
}

impl Script {
    fn new(says: fn(u32, u64, bool) -> String) -> Self {
        let tokenizer = Tokenizer::numbered(64).expect("a tokenizer");
        Self { tokenizer, says, backwards: false, calls: AtomicUsize::new(0), stops_at: usize::MAX }
    }
}

impl Generator for Script {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
    fn generate(&self, feed: &mut dyn Feed, stop: &AtomicBool) -> Result<Usage> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.stops_at {
            stop.store(true, Ordering::Relaxed);
            return Err(Error::Interrupted);
        }
        let mut requests = Vec::new();
        while let Some(request) = feed.next() {
            requests.push(request);
        }
        if self.backwards {
            requests.reverse();
        }
        for request in requests {
            let word = *request.prompt.last().expect("a prompt");
            let text = (self.says)(word, request.stream, request.sampling.temperature == 0.0);
            let ids = self.tokenizer.encode(&text, false)?;
            let finish = if text.is_empty() { Finish::Length } else { Finish::Eos };
            feed.done(request.tag, Completion { ids, text, finish, logprobs: None })?;
        }
        Ok(Usage::default())
    }
}

/// Greedy: right for even words. Samples: right for one stream in two, else empty for one in four.
fn half_right(word: u32, stream: u64, greedy: bool) -> String {
    match (greedy, word % 2, stream % 4) {
        (true, 0, _) | (false, _, 0 | 1) => format!("w{word}"),
        (false, _, 3) => String::new(),
        _ => "w50".into(),
    }
}

fn always_right(word: u32, _: u64, _: bool) -> String {
    format!("w{word}")
}

/// Problems 10 to 10 + count: none of them fails.
fn problems(count: u64) -> Vec<Problem> {
    (10..10 + count)
        .flat_map(|n| Echo.problems(&Row::new(n, Value::Null), Split::Test).expect("one"))
        .collect()
}

fn evaluate(script: &Script, problems: &[Problem], settings: &EvaluateSettings, lanes: usize) -> Evaluation {
    let folder = tempfile::tempdir().expect("a folder");
    let file = results::samples_file(folder.path(), "echo");
    let journal = Journal { file: &file, key: "k", lanes };
    run_with(script, problems, settings, &journal, &AtomicBool::new(false)).expect("an evaluation")
}

fn run_with(
    script: &Script,
    problems: &[Problem],
    settings: &EvaluateSettings,
    journal: &Journal<'_>,
    stop: &AtomicBool,
) -> Result<Evaluation> {
    let verifier = Verifier::new(Arc::new(Echo), None, None).expect("a verifier");
    let subject = Subject { generator: script, verifier: &verifier, problems, reward: None };
    run(&subject, settings, 1, journal, stop, &Progress::quiet())
}

fn settings() -> EvaluateSettings {
    EvaluateSettings::of(&Echo.card())
}

#[test]
fn the_numbers_are_those_of_the_answers() {
    let evaluation = evaluate(&Script::new(half_right), &problems(40), &settings(), 1);
    let summary = evaluation.summary();
    assert_eq!((summary.problems, summary.groups, summary.errors), (40, None, 0));
    assert_eq!((summary.accuracy, summary.interval), (Some(0.5), Some(wilson(0.5, 40.0))));
    assert_eq!((summary.by_rule["same"], summary.by_rule["any"]), (0.5, 1.0));
    let samples = || evaluation.answers.iter().flat_map(|answers| &answers.samples);
    let right = samples().filter(|sample| sample.judged.passed).count();
    assert!(right > 40 && right < 120, "{right} of 160: the streams differ");
    assert_eq!(summary.sampled_accuracy, Some(right as f64 / 160.0));
    let k1 = summary.pass_at_k[&1];
    assert!((k1 - right as f64 / 160.0).abs() < 1e-12, "pass@1 is the mean");
    let any = evaluation.answers.iter().filter(|a| a.samples.iter().any(|s| s.judged.passed)).count();
    assert_eq!(summary.pass_at_k[&4], any as f64 / 40.0);
    assert_eq!(summary.pass_at_k.keys().copied().collect::<Vec<_>>(), [1, 2, 4]);
    // Two samples of four are a majority whatever the others are: they have two answers at most, and one is empty.
    let sure = evaluation.answers.iter().filter(|a| a.samples.iter().filter(|s| s.judged.passed).count() > 2);
    assert!(summary.majority.expect("votes") >= sure.count() as f64 / 40.0);
    assert_eq!((summary.best_of_n, summary.reward_vote), (None, None), "no reward model was given");
    let letters: usize = samples().map(|sample| sample.completion.len()).sum();
    assert_eq!(summary.measures["letters"].sampled, Some(letters as f64 / 160.0));
    assert_eq!(summary.measures["letters"].greedy, Some(3.0));
    assert_eq!(summary.cut, samples().filter(|sample| sample.completion.is_empty()).count());
    assert_eq!(summary.greedy_tokens, 40);
}

#[test]
fn what_cannot_be_asked_cleaned_or_judged_is_wrong_and_counted_and_the_rest_goes_on() {
    let rows: Vec<Problem> =
        (6..11).flat_map(|n| Echo.problems(&Row::new(n, Value::Null), Split::Test).expect("one")).collect();
    let settings = EvaluateSettings { samples: 2, ..settings() };
    let evaluation = evaluate(&Script::new(always_right), &rows, &settings, 1);
    let summary = evaluation.summary();
    assert_eq!((summary.problems, summary.errors), (5, 9), "three problems of three answers");
    assert_eq!((summary.accuracy, summary.sampled_accuracy), (Some(0.4), Some(0.4)));
    let said: Vec<Option<&str>> =
        evaluation.answers.iter().map(|a| a.greedy.as_ref().expect("an answer").error.as_deref()).collect();
    assert!(said[0].is_none() && said[4].is_none());
    for (said, what) in said[1..4].iter().zip(["cleaned", "judged", "asked"]) {
        assert!(said.is_some_and(|said| said.contains(what)), "{said:?}");
    }
    // w6 has two letters, w10 three; the failed ones count 0.
    assert_eq!(summary.measures["letters"].greedy, Some(1.0));
}

#[test]
fn order_lanes_and_an_interruption_change_nothing() {
    // 31 problems of 17 answers: two pieces.
    let (rows, settings) = (problems(31), EvaluateSettings { samples: 16, ..settings() });
    let whole = evaluate(&Script::new(half_right), &rows, &settings, 1);
    let backwards = Script { backwards: true, ..Script::new(half_right) };
    assert_eq!(evaluate(&backwards, &rows, &settings, 2), whole);
    let folder = tempfile::tempdir().expect("a folder");
    let file = results::samples_file(folder.path(), "echo");
    let journal = Journal { file: &file, key: "k", lanes: 1 };
    let stopping = Script { stops_at: 1, ..Script::new(half_right) };
    let stopped = run_with(&stopping, &rows, &settings, &journal, &AtomicBool::new(false));
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let again = Script::new(half_right);
    let resumed = run_with(&again, &rows, &settings, &journal, &AtomicBool::new(false)).expect("done");
    assert_eq!(again.calls.load(Ordering::Relaxed), 1, "the first piece was there");
    assert_eq!(resumed, whole);
}

#[test]
fn the_same_model_draws_the_same_and_another_seed_draws_otherwise() {
    let (script, rows, settings) = (Script::new(half_right), problems(20), settings());
    let (one, two) = (evaluate(&script, &rows, &settings, 1), evaluate(&script, &rows, &settings, 1));
    let same = compare(&one, &two);
    assert_eq!(same.problems, 20);
    let sampled = same.sampled.expect("samples");
    assert_eq!((sampled.difference, sampled.stderr), (0.0, 0.0));
    let verifier = Verifier::new(Arc::new(Echo), None, None).expect("a verifier");
    let subject = Subject { generator: &script, verifier: &verifier, problems: &rows, reward: None };
    let folder = tempfile::tempdir().expect("a folder");
    let file = results::samples_file(folder.path(), "echo");
    let journal = Journal { file: &file, key: "k", lanes: 1 };
    let other = run(&subject, &settings, 2, &journal, &AtomicBool::new(false), &Progress::quiet());
    assert_ne!(other.expect("done").answers, one.answers);
}

#[test]
fn a_comparison_counts_what_was_gained_and_lost() {
    let rows = problems(20);
    let none = EvaluateSettings { samples: 0, ..settings() };
    let before = evaluate(&Script::new(half_right), &rows, &none, 1);
    let after = evaluate(&Script::new(always_right), &rows[..18], &none, 1);
    let found = compare(&after, &before);
    assert_eq!((found.problems, found.sampled), (18, None));
    let greedy = found.greedy.expect("greedy answers");
    assert_eq!((greedy.gained, greedy.lost, greedy.difference), (Some(9), Some(0), 0.5));
    assert_eq!(greedy.mcnemar_p, Some(mcnemar(9, 0)));
    // Nine ones and nine zeros: sd sqrt(9 * .25 * 2 / 17), over sqrt(18).
    assert!((greedy.stderr - (4.5_f64 / 17.0 / 18.0).sqrt()).abs() < 1e-12);
    assert_eq!(found.measures["letters"].difference, 0.0, "w50 is as long as the right word");
    let back = compare(&before, &after).greedy.expect("greedy answers");
    assert_eq!((back.gained, back.lost, back.difference), (Some(0), Some(9), -0.5));
}

#[test]
fn prompts_of_a_group_are_one_unit() {
    let mut rows = problems(12);
    for (place, row) in rows.iter_mut().enumerate() {
        // Pairs of an even and an odd word: one right, one wrong.
        row.extra = serde_json::json!({ "group": place / 2 });
    }
    let evaluation = Evaluation {
        metric: Metric::PassAtK,
        ..evaluate(&Script::new(half_right), &rows, &EvaluateSettings { samples: 1, ..settings() }, 1)
    };
    let summary = evaluation.summary();
    assert_eq!((summary.problems, summary.groups), (12, Some(6)));
    assert_eq!(summary.greedy_pass_at_k, [(1, 0.5), (2, 1.0)].into());
    assert_eq!(summary.interval, Some(wilson(0.5, 6.0)));
    assert_eq!(summary.stderr, Some(0.0), "every group has the same mean");
    assert!(summary.pass_at_k.contains_key(&2), "two samples a group");
    let greedy = compare(&evaluation, &evaluation).greedy.expect("greedy answers");
    assert_eq!(greedy.mcnemar_p, None);
}

#[test]
fn worked_examples_stand_before_the_question() {
    let few = EvaluateSettings { few_shot: true, samples: 0, ..settings() };
    let evaluation = evaluate(&Script::new(always_right), &problems(1), &few, 1);
    assert_eq!(evaluation.answers[0].prompt, "w1 w1\n\nw2 w2\n\nw10 ");
    assert_eq!(evaluation.summary().accuracy, Some(1.0));
}

#[test]
fn settings_that_ask_nothing_new_are_refused() {
    let rows = problems(1);
    let script = Script::new(always_right);
    for bad in [
        EvaluateSettings { greedy: false, samples: 0, ..settings() },
        EvaluateSettings { temperature: 0.0, ..settings() },
        EvaluateSettings { top_p: 0.0, ..settings() },
        EvaluateSettings { max_tokens: 0, ..settings() },
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("samples.jsonl");
        let journal = Journal { file: &file, key: "k", lanes: 1 };
        assert!(run_with(&script, &rows, &bad, &journal, &AtomicBool::new(false)).is_err(), "{bad:?}");
    }
}

#[test]
fn the_files_give_the_evaluation_back_and_say_nothing_of_where_and_when() {
    let (folder, settings) = (tempfile::tempdir().expect("a folder"), settings());
    let mut rows = problems(12);
    rows[0].extra = serde_json::json!({ "group": "first" });
    let own = evaluate(&Script::new(half_right), &rows, &settings, 1);
    let other = Evaluation { task: "elsewhere".into(), ..own.clone() };
    let better = evaluate(&Script::new(always_right), &rows, &settings, 1);
    let all = [own, other];
    let found = results::write(folder.path(), &all, &[], "M0").expect("written");
    assert_eq!(results::read(folder.path()).expect("read"), all);
    assert_eq!(found["transfer"]["elsewhere"]["accuracy"], 0.5);
    assert!(found.get("against").is_none());
    let later = tempfile::tempdir().expect("a folder");
    let found = results::write(later.path(), &[better], &[("iter-0", &all)], "M1").expect("written");
    assert_eq!(found["against"]["iter-0"]["greedy"]["gained"], 6);
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["eval.json", "results.json", "samples_echo.jsonl", "samples_elsewhere.jsonl"]);
    let row: Value = record::read(&folder.path().join("samples_echo.jsonl")).expect("rows").swap_remove(1);
    for key in ["doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "exact_match"] {
        assert!(row.get(key).is_some(), "{key}");
    }
    assert_eq!(row["doc"]["id"], "echo/test/11");
    let text = std::fs::read_to_string(folder.path().join("results.json")).expect("text");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(results["results"]["echo"]["exact_match,same"], 0.5);
    assert_eq!(results["results"]["echo"]["exact_match,any"], 1.0);
    assert_eq!(results["n-samples"]["elsewhere"]["effective"], 12);
}
