//! Native plugins that misbehave: each ends in one message that names plugin and call, and this process goes on.

use std::time::Duration;

use sipf_plugin::{Outcome, Problem, Role, Row, Split, Verdict};
use sipf_plugin_host::foreign::MAX_PANICS;
use sipf_plugin_host::open::open;
use sipf_tests::{run, sipf};

use super::{native, opened, prober, refusal};

fn problem() -> Problem {
    Problem::new("p/0", "x")
}

/// The error of a call, which must be one line.
fn said<T: std::fmt::Debug>(result: sipf_plugin::Result<T>) -> String {
    let text = result.unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn names(text: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
}

#[test]
fn a_panic_is_an_error_with_its_text_and_place() {
    let library = opened(&native("panics"));
    let task = library.task("panics").unwrap();
    let text = said(task.verify(&problem(), "short"));
    names(&text, &["panics", "call verify", "panicked", "index is 100", "panics.rs:"]);
    let text = said(task.problems(&Row::default(), Split::Train));
    names(&text, &["call problems", "a value that is not text"]);
    assert_eq!(task.prompt(&problem(), Role::Policy).unwrap(), "x", "the plugin goes on");
    // After a hundred panics there is nothing more to expect of it.
    for _ in 0..MAX_PANICS {
        said(task.verify(&problem(), "short"));
    }
    names(&said(task.prompt(&problem(), Role::Policy)), &["panics", "not called any more", "100"]);
}

#[test]
fn errors_and_values_that_cannot_be_used_name_the_call() {
    // A copy, since the other test wears the library out and a file is opened once.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(native("panics").file_name().unwrap());
    std::fs::copy(native("panics"), &copy).unwrap();
    let task = opened(&copy).task("panics").unwrap();
    names(&said(task.answer("seven")), &["panics", "call answer", "cannot read \"seven\""]);
    names(
        &said(task.clean(&problem(), "ab")),
        &["panics", "call clean", "reply of", "over the limit of 67108864"],
    );
    let measured = task.measure(&problem(), "", &Verdict::default());
    names(&said(measured), &["panics", "call measure", "\"ratio\" is not finite"]);
    names(&said(task.steps(&problem(), "abc")), &["panics", "call steps", "bytes 0..4 of 3"]);
}

#[test]
fn every_breach_of_the_abi_is_named() {
    let task = opened(&native("breaks_abi")).task("breaks-abi").unwrap();
    let problem = problem();
    names(
        &said(task.prompt(&problem, Role::Policy)),
        &["breaks-abi", "call prompt", "something else than asked"],
    );
    names(&said(task.verify(&problem, "")), &["breaks-abi", "call verify", "something else than asked"]);
    names(&said(task.judge(&problem, &Outcome::default())), &["call judge", "broke the ABI", "status 42"]);
    names(&said(task.answer("")), &["call answer", "broke the ABI", "null pointer"]);
    names(&said(task.clean(&problem, "")), &["call clean", "reply of 67108865 bytes", "limit"]);
    names(&said(task.shots()), &["call shots", "could not read the request"]);
    // A call it does not know has the host's default, or none.
    assert_eq!(task.steps(&problem, "a\nb").unwrap().len(), 2);
    names(
        &said(task.problems(&Row::default(), Split::Train)),
        &["breaks-abi", "call problems", "there is no default"],
    );
}

#[test]
fn libraries_that_cannot_be_used_are_refused_before_they_are_loaded_here() {
    names(&refusal(&native("wrong_abi")), &["wrong_abi", "ABI 7", "speaks 1", "rebuild"]);
    names(&refusal(&native("no_call")), &["no_call", "no function `sipf_call`", "export_task!"]);
    names(&refusal(&native("aborts_at_load")), &["aborts_at_load", "crashed the process that loaded it"]);
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    std::fs::write(&text, "this is no library").unwrap();
    names(&refusal(&text), &["text.so", "cannot be loaded"]);
    names(&refusal(&folder.path().join("absent.so")), &["absent.so", "No such file"]);
    let other = folder.path().join("plugin.txt");
    std::fs::write(&other, "x").unwrap();
    names(&refusal(&other), &["plugin.txt", "is no plugin", ".wasm"]);
}

#[test]
fn a_library_that_hangs_while_loading_is_given_up() {
    let start = std::time::Instant::now();
    let found = open(&native("hangs_at_load"), &prober().patience(Duration::from_secs(1)));
    let text = found.err().unwrap().to_string();
    names(&text, &["hangs_at_load", "did not introduce itself within 1 s"]);
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[test]
fn the_command_says_it_in_one_line_and_its_status_tells_what_cannot_be_loaded_from_what_fails() {
    for (fixture, part, status) in [
        ("wrong_abi", "ABI 7", 2),
        ("no_call", "sipf_call", 2),
        ("aborts_at_load", "crashed", 2),
        ("breaks_abi", "does not generate rows", 1),
    ] {
        let ran = run(sipf().args(["plugin", "check"]).arg(native(fixture)));
        assert_eq!(ran.status, Some(status), "{fixture}: {}", ran.stderr);
        assert_eq!(ran.stdout.lines().next_back().is_some_and(|end| end.contains(": FAILED: ")), status == 1);
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(text.contains(part), "{fixture}: {text}");
        assert!(ran.stderr.lines().count() <= 1, "{}", ran.stderr);
    }
    // A run that names a broken plugin cannot start.
    let ran =
        run(sipf().args(["verify", "--reference", "--limit", "1", "--task"]).arg(native("aborts_at_load")));
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    names(&ran.stderr, &["aborts_at_load", "crashed"]);
}
