//! Whose names count, what sticks, and what each test says.

use sipf_plugin::{Program, RunVerdict};

use super::{asked, on, one, run, verdict};

#[test]
fn builtins_and_modules_of_a_test_are_the_judges_own() {
    let liar = "def set(*a): return 0\ndef sorted(*a): return 0\nclass math: isclose = staticmethod(lambda *a: True)\ndef f(x): return [x]";
    for test in [
        "assert set(f(1)) == set([2])",
        "assert sorted(f(1)) == sorted([2])",
        "assert math.isclose(f(1)[0], 5)",
    ] {
        assert_eq!(verdict(liar, test), RunVerdict::FailedAssertion, "{test}");
        let undeclared = Program::python(liar).tests([test]);
        assert_ne!(one(undeclared).verdict, RunVerdict::Passed, "{test} without names");
    }
}

#[test]
fn a_declared_name_comes_from_the_program_even_where_a_builtin_or_setup_has_it() {
    let program = Program::python("def sum(a, b): return a + b").setup("def sum(a, b): return 0");
    assert_eq!(one(program.tests(["assert sum(2, 3) == 5"]).names(["sum"])).verdict, RunVerdict::Passed);
    let library = Program::python("from math import gcd").tests(["assert gcd(12, 18) == 6"]).names(["gcd"]);
    assert_eq!(one(library).verdict, RunVerdict::Passed);
}

#[test]
fn a_declared_name_that_the_program_lacks_is_no_builtin_either() {
    for source in ["pass", "def sum(a): return 5\ndel sum"] {
        let program = Program::python(source).tests(["assert sum([2, 3]) == 5"]).names(["sum"]);
        let outcome = one(program);
        assert_eq!(outcome.verdict, RunVerdict::RuntimeError, "{source}");
        assert!(outcome.explanation().unwrap().contains("name 'sum' is not defined"), "{outcome:?}");
    }
}

#[test]
fn a_stop_iteration_of_the_program_ends_no_loop_of_the_test() {
    let source = "def f(x): raise StopIteration";
    assert_eq!(verdict(source, "assert all(map(f, [1, 2]))"), RunVerdict::RuntimeError);
    let generator = "def f(x):\n    y = yield x\n    return y";
    let test = "g = f(1)\nassert next(g) == 1\ntry:\n    g.send(9)\n    assert False\nexcept StopIteration as e:\n    assert e.value == 9";
    assert_eq!(verdict(generator, test), RunVerdict::Passed);
}

#[test]
fn whether_a_plain_value_is_in_an_object_of_the_program_is_decided_item_by_item() {
    let liar = "class T:\n    def __contains__(s, x): return True\n    def __iter__(s): return iter([4])\ndef f(x): return T()";
    assert_eq!(verdict(liar, "assert 9 in f(1)"), RunVerdict::FailedAssertion);
    assert_eq!(verdict(liar, "assert 4 in f(1)"), RunVerdict::Passed);
    let closed = "class T:\n    def __contains__(s, x): return True\ndef f(x): return T()";
    assert_eq!(verdict(closed, "assert 9 in f(1)"), RunVerdict::Unsupported);
}

#[test]
fn replacing_builtins_breaks_nothing_but_the_program() {
    let source = "import builtins\nbuiltins.len = builtins.type = builtins.isinstance = lambda *a: 42\ndef f(x): return [x, (x,)]";
    assert_eq!(verdict(source, "assert f(3) == [3, (3,)]"), RunVerdict::Passed);
}

#[test]
fn what_is_not_carried_cannot_be_swallowed_into_a_pass() {
    let source = "class V:\n    def __mul__(self, k): return self\ndef f(x): return V()";
    assert_eq!(verdict(source, "assert f(1) * 3"), RunVerdict::Unsupported);
    assert_eq!(verdict(source, "try:\n    f(1) * 3\nexcept:\n    pass"), RunVerdict::Unsupported);
}

#[test]
fn a_dead_program_cannot_be_swallowed_either() {
    let swallowed = "try:\n    f(1)\nexcept BaseException:\n    pass";
    assert_eq!(verdict("def f(x):\n    while True: pass", swallowed), RunVerdict::Timeout);
    let outcome = one(asked("def f(x):\n    while x: pass\n    return 1", "assert f(0) == 1").tests([
        "assert f(0) == 1",
        "assert f(1) == 1",
        "assert f(0) == 1",
    ]));
    let classes: Vec<_> = outcome.tests.iter().map(|test| test.verdict).collect();
    assert_eq!(classes, [RunVerdict::Passed, RunVerdict::Timeout], "the tests before it keep their verdicts");
}

#[test]
fn a_judge_that_a_value_upsets_gives_the_program_a_verdict() {
    for (source, expected) in [
        ("def f(x): return range(2**31 - 2)", RunVerdict::MemoryLimit),
        ("def f(x): return range(10**18)", RunVerdict::MemoryLimit),
    ] {
        let found = verdict(source, "assert list(f(1)) == [1]");
        assert!(
            [expected, RunVerdict::Timeout, RunVerdict::RuntimeError].contains(&found),
            "{source}: {found}"
        );
    }
    assert_eq!(verdict("def f(x): return 10**6", "while f(1): pass"), RunVerdict::Timeout);
}

#[test]
fn messages_name_the_exception_the_line_and_the_test() {
    let outcome = one(asked("def f(x):\n    return y", "assert f(1) == 1"));
    assert_eq!(outcome.verdict, RunVerdict::RuntimeError);
    let told = outcome.explanation().unwrap();
    assert!(
        told.starts_with("test 0: ") && told.contains("name 'y' is not defined") && told.contains("line 2"),
        "{told}"
    );
    let outcome = one(asked("def f(x): return 2", "assert f(1) == 1"));
    assert_eq!(outcome.explanation().unwrap(), "test 0: AssertionError: assert f(1) == 1");
    let outcome = one(asked("def f(x:\n", "assert f(1) == 1"));
    assert_eq!((outcome.verdict, outcome.tests.len()), (RunVerdict::SyntaxError, 0));
}

#[test]
fn a_bare_comparison_is_a_test_that_can_fail() {
    assert_eq!(verdict("def f(x): return x", "f(1) == 2"), RunVerdict::FailedAssertion);
    assert_eq!(verdict("def f(x): return x", "f(1) == 1"), RunVerdict::Passed);
}

#[test]
fn what_setup_came_to_is_the_verdict_when_it_did_not_pass() {
    let program = Program::python("def f(x): return x").setup("assert f(1) == 2").names(["f"]);
    for tests in [vec![], vec!["assert f(1) == 1"]] {
        let outcome = one(program.clone().tests(tests));
        assert_eq!((outcome.verdict, outcome.tests.len()), (RunVerdict::FailedAssertion, 0));
        assert!(outcome.explanation().unwrap().starts_with("the setup: AssertionError"), "{outcome:?}");
    }
}

#[test]
fn a_container_that_program_and_test_both_hold_is_one_container() {
    let source = "class S:\n    def __init__(self, xs): self.xs = xs\n    def last(self): return self.xs[-1]";
    let test = "xs = [[1]]\ns = S(xs)\nxs[0].append(2)\nxs.append(s.xs[0])\n\
                assert s.last() is xs[0] and s.xs is xs and s.last() == [1, 2]";
    let program = Program::python(source).names(["S"]);
    assert_eq!(one(program.clone().tests([test])).verdict, RunVerdict::Passed);
    // Held by one side only, it costs nothing more: a thousand of them are no thousand comparisons a call.
    let held = |keeps: &str| {
        let source = format!("kept = []\ndef f(x):\n    r = [x]\n    {keeps}\n    return r");
        one(asked(&source, "all = [f(i) for i in range(1000)]\nassert len(all) == 1000"))
    };
    let (fresh, kept) = (held("pass"), held("kept.append(r)"));
    assert_eq!((fresh.verdict, kept.verdict), (RunVerdict::Passed, RunVerdict::Passed));
    assert!(fresh.fuel * 3 < kept.fuel, "{} {}", fresh.fuel, kept.fuel);
}

#[test]
fn the_outcome_keeps_what_was_printed_and_that_a_limit_was_hit() {
    let outcome = one(asked("print('loaded')\ndef f(x): print('called', x)", "assert f(3) is None"));
    assert_eq!((outcome.verdict, outcome.stdout.as_str()), (RunVerdict::Passed, "loaded\ncalled 3\n"));
    assert!(!outcome.limit_hit);
    let survived = "def f(x):\n    try: a = [0] * 10**8\n    except MemoryError: return 1";
    let outcome = one(asked(survived, "assert f(3) == 1"));
    assert_eq!((outcome.verdict, outcome.limit_hit), (RunVerdict::Passed, true));
}

#[test]
fn an_annotation_without_its_import_is_an_error_as_before_python_3_14() {
    assert_eq!(verdict("def f(x: List[int]): return x", "assert f(1) == 1"), RunVerdict::RuntimeError);
    assert_eq!(
        verdict("from typing import List\ndef f(x: List[int]): return x", "assert f(1) == 1"),
        RunVerdict::Passed
    );
}

#[test]
fn what_a_test_does_to_a_module_is_gone_in_the_next_verdict() {
    for altering in [
        "import math; math.pi = 3",
        "import string; setattr(string, 'digits', '')",
        "import sys; sys.modules['json'] = None",
        "import os; os.environ['HOME'] = 'x'",
        "import calendar; calendar.setfirstweekday(6)",
        "def g():\n    import random as r\n    r.random = lambda: 2\ng()",
        "import calendar; calendar.mdays[2] = 30",
        "from calendar import mdays as days; days[2] += 1",
        "import keyword; keyword.kwlist.clear()",
        "from keyword import *; kwlist.append('f')",
        "import sys; sys.stdout.close()",
        "import calendar; getattr(calendar, 'mdays').pop()",
        "import keyword; f(keyword.kwlist)",
    ] {
        let looks = "import math, string, os, calendar, random, json, keyword\n\
                     print(end='')\n\
                     assert calendar.mdays[2] == 28 and len(calendar.mdays) == 13 and len(keyword.kwlist) == 35\n\
                     assert math.pi > 3.1 and string.digits and 'HOME' not in os.environ\n\
                     assert calendar.firstweekday() == 0 and random.random() < 1 and json.dumps(1)";
        let source = "def f(x):\n    if type(x) is list: x.append('f')\n    return x";
        let (first, next) = (asked(source, altering), asked(source, looks));
        let verdicts: Vec<_> = run(&on(1), &[first, next]).iter().map(|outcome| outcome.verdict).collect();
        assert_eq!(verdicts, [RunVerdict::Passed; 2], "{altering}");
    }
}

#[test]
fn a_test_draws_the_same_random_bytes_whatever_its_judge_has_judged_before() {
    let test =
        "import os, uuid, random\nassert f(1) == (os.urandom(8).hex(), str(uuid.uuid4()), random.random())";
    let programs = vec![asked("def f(x): return x", test); 4];
    let told: Vec<_> =
        run(&on(1), &programs).iter().map(|outcome| outcome.explanation().unwrap().to_owned()).collect();
    assert!(told.iter().all(|text| *text == told[0]), "{told:?}");
    let drawn = "import os\nraise ValueError(os.urandom(8).hex())";
    let programs = vec![asked("def f(x): return x", drawn); 4];
    let told: Vec<_> =
        run(&on(1), &programs).iter().map(|outcome| outcome.explanation().unwrap().to_owned()).collect();
    assert!(told.iter().all(|text| *text == told[0]), "{told:?}");
}
