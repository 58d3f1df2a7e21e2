//! Programs that loop, hog, escape or cheat get a verdict that is right; honest ones get theirs.

use sipf_plugin::{Limits, RunVerdict};

use super::{program, rows, run, sandbox, texts};

#[test]
fn every_attack_gets_a_verdict_that_is_right() {
    // A fifth of the default, so that loops end sooner; nothing here is decided by the difference.
    all_accepted(include_str!("../data/sandbox_attacks.jsonl"), 20_000_000_000);
}

#[test]
fn attacks_on_the_judge_and_on_the_codec_get_a_verdict_that_is_right() {
    all_accepted(include_str!("../data/sandbox_codec_attacks.jsonl"), 5_000_000_000);
}

/// Every row's verdict is one that the row accepts.
fn all_accepted(text: &str, fuel: u64) {
    let rows = rows(text);
    let limits = Limits { fuel, ..Limits::default() };
    let programs: Vec<_> = rows.iter().map(|row| program(row).limits(limits)).collect();
    let mut wrong = Vec::new();
    for (row, outcome) in rows.iter().zip(run(sandbox(), &programs)) {
        assert_ne!(outcome.verdict, RunVerdict::HostError, "{}: {}", row["id"], outcome.message);
        if !texts(row, "accept").iter().any(|name| name == outcome.verdict.name()) {
            wrong.push(format!("{}: {} {:?}", row["id"], outcome.verdict, outcome.explanation()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn honest_programs_that_are_hard_to_carry_pass_as_often_as_documented() {
    let rows = rows(include_str!("../data/sandbox_fidelity.jsonl"));
    let programs: Vec<_> = rows.iter().map(program).collect();
    let outcomes = run(sandbox(), &programs);
    let failed: Vec<_> = rows
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| outcome.verdict != RunVerdict::Passed)
        .map(|(row, outcome)| format!("{} {}", row["id"], outcome.verdict))
        .collect();
    assert!(rows.len() - failed.len() >= 101, "docs/sandbox.md says 101 of {}: {failed:#?}", rows.len());
}

#[test]
fn a_hostile_program_leaves_the_next_verdict_unharmed() {
    use super::{asked, on};
    let one_worker = on(1);
    let right = asked("def f(x): return x * x", "assert f(3) == 9");
    let alone = run(&one_worker, std::slice::from_ref(&right)).remove(0);
    let hostile = [
        ("def f(x):\n    while True: pass", RunVerdict::Timeout),
        ("def f(x): return [0] * 10**9", RunVerdict::MemoryLimit),
        ("def f(x): return f(x)", RunVerdict::StackOverflow),
        ("def f(x):\n    while True: print('x' * 4096)", RunVerdict::OutputLimit),
        ("def f(x): return 'x' * 40_000_000", RunVerdict::OutputLimit),
        ("import os\ndef f(x): os.abort()", RunVerdict::Crashed),
    ];
    for (source, expected) in hostile {
        let pair = run(&one_worker, &[asked(source, "assert f(3) == 9"), right.clone()]);
        assert_eq!(pair[0].verdict, expected, "{source}: {:?}", pair[0].explanation());
        assert_eq!(pair[1], alone, "after {source}");
    }
}
