//! Values survive the way to the program and back; what is not a reply of the codec never passes.

use proptest::prelude::*;
use sipf_plugin::{Program, RunVerdict};

use super::{asked, one, sandbox};

/// Python source of a value that can be a key.
fn key() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (any::<i32>(), 0u32..4000).prop_map(|(n, e)| format!("{n} * 2 ** {e}")),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap().replace("\\/", "/")),
        Just("'\\ud800 lone'".to_owned()),
        any::<f64>()
            .prop_filter("equal to itself", |x| x.is_finite())
            .prop_map(|x| format!("float({:?})", x.to_string())),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| format!("bytes({bytes:?})")),
        prop::sample::select(vec!["None", "True", "float('inf')", "1j", "Ellipsis", "range(3, 9, 2)", "int"])
            .prop_map(str::to_owned),
        Just("__import__('decimal').Decimal('1.10')".to_owned()),
        Just("__import__('fractions').Fraction(3, 7)".to_owned()),
        Just("__import__('datetime').datetime(2024, 2, 29, 1, 2, 3, 4)".to_owned()),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|xs| format!("tuple([{}])", xs.join(", "))),
            prop::collection::vec(inner, 0..4).prop_map(|xs| format!("frozenset([{}])", xs.join(", "))),
        ]
    })
}

fn value() -> impl Strategy<Value = String> {
    key().prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|xs| format!("[{}]", xs.join(", "))),
            prop::collection::vec((key(), inner.clone()), 0..4)
                .prop_map(|xs| xs.iter().map(|(a, b)| format!("{a}: {b}")).collect::<Vec<_>>().join(", "))
                .prop_map(|xs| format!("{{{xs}}}")),
            prop::collection::vec(key(), 0..4).prop_map(|xs| format!("set([{}])", xs.join(", "))),
            prop::collection::vec(inner, 0..4)
                .prop_map(|xs| format!("__import__('collections').deque([{}], 9)", xs.join(", "))),
        ]
    })
}

/// What a program could send: noise, JSON of any shape, and things close to replies.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let json = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "[a-zA-Z~&]{1,2}".prop_map(|tag| format!("{{\"{tag}\":0}}")),
    ]
    .prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|xs| format!("[{}]", xs.join(","))),
            ("[a-zA-Z~&]{1,2}", inner).prop_map(|(tag, x)| format!("{{\"{tag}\":{x}}}")),
        ]
    });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        json.clone().prop_map(String::into_bytes),
        json.clone().prop_map(|x| format!("[\"v\",{x}]").into_bytes()),
        json.clone().prop_map(|x| format!("[\"v\",{{\"f\":{x}}}]").into_bytes()),
        json.prop_map(|x| format!("[\"e\",\"E\",\"t\",[\"ValueError\"],[{x},{x}]]").into_bytes()),
        Just(b"[\"dead\"]".to_vec()),
        Just(vec![b'['; 100_000]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back_as_it_went(value in value()) {
        let test = format!("v = {value}\nr = f(v)\nassert r == v and type(r) is type(v) and repr(r) == repr(v), (r, v)");
        // Sets print in the order in which they grew, which a copy need not share.
        let test = if value.contains("set(") { test.replace(" and repr(r) == repr(v)", "") } else { test };
        let outcome = one(asked("def f(x):\n    import copy\n    return copy.deepcopy(x)", &test));
        prop_assert_eq!(outcome.verdict, RunVerdict::Passed, "{}: {:?}", value, outcome.explanation());
    }

    #[test]
    fn arbitrary_replies_never_pass_and_never_break_the_judge(bytes in reply()) {
        let program = Program::python("").tests(["try:\n    assert f(1) == 2\nexcept Exception:\n    raise"]).names(["f"]);
        let outcome = sandbox().judge_replies(&program, move |_| bytes.clone()).unwrap();
        prop_assert_ne!(outcome.verdict, RunVerdict::Passed);
        prop_assert_ne!(outcome.verdict, RunVerdict::HostError);
    }
}

#[test]
fn what_is_no_reply_is_tampering() {
    let program = Program::python("").tests(["try:\n    f(1)\nexcept BaseException:\n    pass"]).names(["f"]);
    for bytes in [
        "",
        "[",
        "null",
        "[]",
        "[\"v\"]",
        "[\"x\",1]",
        "[\"v\",[]]",
        "[\"v\",{\"f\":{\"zz\":1}}]",
        "[\"dead\"]",
    ] {
        let outcome = sandbox().judge_replies(&program, move |_| bytes.as_bytes().to_vec()).unwrap();
        assert_eq!(outcome.verdict, RunVerdict::Tampering, "{bytes}: {:?}", outcome.explanation());
    }
}

#[test]
fn aliases_cycles_and_changed_arguments_are_carried() {
    let passes = [
        ("def f(x):\n    a = [x]\n    return [a, a]", "r = f(1)\nassert r[0] is r[1]"),
        ("def f(x):\n    a = [x]\n    a.append(a)\n    return a", "r = f(1)\nassert r[1] is r"),
        ("def f(x): x.append(4)", "a = [1]\nf(a)\nassert a == [1, 4]"),
        (
            "def f(x):\n    x[0].append(4)\n    return x",
            "a = [[1]]\nb = a[0]\nassert f(a) is a and b == [1, 4]",
        ),
        ("def f(g): return g(20)", "k = 3\nassert f(lambda x: x + k) == 23"),
        (
            "class E(ValueError): pass\ndef f(x): raise E('no')",
            "try:\n    f(1)\n    raise SystemExit\nexcept ValueError as e:\n    assert str(e) == 'no'",
        ),
    ];
    for (source, test) in passes {
        let outcome = one(asked(source, test));
        assert_eq!(outcome.verdict, RunVerdict::Passed, "{source}: {:?}", outcome.explanation());
    }
}
