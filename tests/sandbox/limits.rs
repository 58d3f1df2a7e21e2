//! Limits decide, the same everywhere; a stop ends everything soon.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sipf_plugin::{Execute, Limits, Program, RunVerdict};

use super::{asked, on, one, run, sandbox};

#[test]
fn fuel_memory_and_output_are_settable() {
    let loops = "def f(x):\n    for i in range(x): pass\n    return x";
    let with = |limits| {
        one(Program::python(loops).tests(["assert f(10**6) == 10**6"]).names(["f"]).limits(limits)).verdict
    };
    assert_eq!(with(Limits::default()), RunVerdict::Passed);
    assert_eq!(with(Limits { fuel: 20_000_000, ..Limits::default() }), RunVerdict::Timeout);
    let hog = "def f(x): return len(bytearray(x << 20))";
    let hogging = |megabytes: u64, limit: u64| {
        let limits = Limits { memory_bytes: limit << 20, ..Limits::default() };
        one(Program::python(hog).tests([format!("assert f({megabytes})")]).names(["f"]).limits(limits))
            .verdict
    };
    assert_eq!(hogging(150, 0), RunVerdict::Passed);
    assert_eq!(hogging(150, 64), RunVerdict::MemoryLimit);
    assert_eq!(hogging(350, 0), RunVerdict::MemoryLimit);
    assert_eq!(hogging(350, 500), RunVerdict::Passed);
    let print =
        Program::python("print('x' * 100_000)").limits(Limits { output_bytes: 50_000, ..Limits::default() });
    assert_eq!(one(print).verdict, RunVerdict::OutputLimit);
}

#[test]
fn the_same_program_uses_the_same_fuel_in_any_company() {
    let sources = [
        "import random, time, os, uuid\ndef f(x): return [random.random(), time.time(), os.urandom(4), uuid.uuid4(), id(f), hash('a')]",
        "def f(x): return {str(i) for i in range(50)}",
        "def f(x):\n    d = {}\n    for i in range(1000): d[i * i % 97] = str(i)\n    return d",
    ];
    let mut programs = Vec::new();
    for _ in 0..8 {
        programs.extend(
            sources
                .iter()
                .map(|source| asked(source, "import random\nassert f(3)\nassert f(random.random())")),
        );
    }
    let alone = run(&on(1), &programs);
    let paired = run(&on(2), &programs);
    assert_eq!(alone, paired);
    for (number, outcome) in alone.iter().enumerate() {
        assert_eq!(outcome.verdict, RunVerdict::Passed, "{:?}", outcome.explanation());
        assert_eq!(outcome.fuel, alone[number % sources.len()].fuel, "program {number}");
    }
}

#[test]
fn time_is_virtual() {
    let source = "import time\ndef f(x):\n    a = time.time(); time.sleep(x); return time.time() - a";
    let begun = Instant::now();
    assert_eq!(one(asked(source, "assert 5 <= f(5) < 5.001")).verdict, RunVerdict::Passed);
    assert_eq!(one(asked(source, "assert f(11)")).verdict, RunVerdict::Timeout);
    assert!(begun.elapsed() < Duration::from_secs(10), "sleeping takes no time");
}

#[test]
fn a_stopped_batch_ends_within_a_second_and_says_nothing_about_the_rest() {
    let quick = asked("def f(x): return x", "assert f(1) == 1");
    let mut programs = vec![quick; 2];
    programs.extend(vec![Program::python("while True: pass"); 40]);
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let sandbox = sandbox();
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| {
            sandbox.run(&programs, &stop, &|number, outcome| {
                seen.lock().unwrap().push((number, outcome.unwrap().verdict));
            });
        });
        while seen.lock().unwrap().len() < 2 {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        runner.join().unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} (a second, and one for a busy machine)");
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().all(|(number, verdict)| *number < 2 && *verdict == RunVerdict::Passed), "{seen:?}");
}

/// Two endless programs in flight on the only two slots of a two-core machine, until the returned flag is set.
fn hog<'s>(scope: &'s std::thread::Scope<'s, '_>, stop: &'s AtomicBool) {
    scope.spawn(|| {
        let endless = vec![Program::python("while True: pass"); 2 * sipf_sandbox::slots()];
        on(sipf_sandbox::slots()).run(&endless, stop, &|_, _| {});
    });
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn a_stopped_batch_does_not_wait_for_the_programs_of_another_caller() {
    let (stop_hog, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        hog(scope, &stop_hog);
        let begun = Instant::now();
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            stop.store(true, Ordering::Relaxed);
        });
        on(1).run(&[asked("def f(x): return x", "assert f(1) == 1")], &stop, &|_, _| {});
        let took = begun.elapsed();
        stop_hog.store(true, Ordering::Relaxed);
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn a_short_batch_gets_its_turn_beside_a_long_one() {
    let long = vec![asked("def f(x): return x", "assert f(1) == 1"); 400];
    let (finished, long_left) = (AtomicBool::new(false), Mutex::new(None));
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| {
            let left = std::sync::atomic::AtomicUsize::new(long.len());
            on(sipf_sandbox::slots()).run(&long, &AtomicBool::new(false), &|_, outcome| {
                assert_eq!(outcome.unwrap().verdict, RunVerdict::Passed);
                let left = left.fetch_sub(1, Ordering::Relaxed) - 1;
                if finished.swap(false, Ordering::Relaxed) {
                    *long_left.lock().unwrap() = Some(left);
                }
            });
        });
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(run(&on(1), &long[..1])[0].verdict, RunVerdict::Passed);
        finished.store(true, Ordering::Relaxed);
        runner.join().unwrap();
    });
    let left = long_left.into_inner().unwrap();
    assert!(left.is_some_and(|left| left > 100), "the long batch had {left:?} programs left");
}

#[test]
fn who_takes_an_outcome_may_ask_the_sandbox_again() {
    let sandbox = on(sipf_sandbox::slots());
    let programs = vec![asked("def f(x): return x", "assert f(1) == 1"); 4 * sipf_sandbox::slots()];
    let inner = Mutex::new(0);
    sandbox.run(&programs, &AtomicBool::new(false), &|number, outcome| {
        assert_eq!(outcome.unwrap().verdict, RunVerdict::Passed);
        assert_eq!(sandbox.one(&programs[number]).unwrap().verdict, RunVerdict::Passed);
        *inner.lock().unwrap() += 1;
    });
    assert_eq!(inner.into_inner().unwrap(), programs.len());
}

#[test]
fn what_tests_print_sleep_draw_or_set_leaves_the_next_verdict_alone() {
    let test = "import builtins, decimal, random, sys, time
began = time.time()
assert sys.getrecursionlimit() > 500 and decimal.getcontext().prec == 28 and abs(-1) == 1
assert sys.stdout is sys.__stdout__ and began < 1_700_000_002
drawn = [random.random()]
assert f(drawn) == drawn
print('x' * 200_000)
time.sleep(2)
decimal.getcontext().prec = 5
builtins.abs = lambda x: 0
sys.stdout = None
sys.setrecursionlimit(300)
raise KeyError(*drawn)";
    let outcomes = run(&on(1), &vec![asked("def f(x): return x", test); 12]);
    assert!(outcomes[0].explanation().unwrap().contains("KeyError"), "{:?}", outcomes[0]);
    for outcome in &outcomes {
        assert_eq!(outcome, &outcomes[0]);
    }
}

#[test]
fn several_callers_share_the_workers() {
    let programs = vec![asked("def f(x): return x + 1", "assert f(1) == 2"); 6];
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for outcome in run(sandbox(), &programs) {
                    assert_eq!(outcome.verdict, RunVerdict::Passed, "{:?}", outcome.explanation());
                }
            });
        }
    });
}

#[test]
fn a_judge_is_replaced_and_nobody_notices() {
    let program = asked(
        "def f(x): return x",
        "import math\nmath.seen = getattr(math, 'seen', 0) + 1\nassert f(1) == 1",
    );
    let outcomes = run(&on(1), &vec![program; sipf_sandbox::JUDGE_VERDICTS as usize + 20]);
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0] && outcome.verdict == RunVerdict::Passed));
}
