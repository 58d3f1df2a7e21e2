//! The interpreter in this binary, its compiled code, and two verdicts.

use std::time::Instant;

use sipf_plugin::{Program, RunVerdict};
use sipf_sandbox::{
    DESCRIPTION, Found, PACKED_SHA256, SHA256, Sandbox, SandboxOptions, Start, packed_sha256,
};

use super::Check;

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![interpreter()];
    match Sandbox::new(SandboxOptions::default()) {
        Ok(sandbox) => {
            checks.push(compiled_code(sandbox.start()));
            checks.push(verdict(
                &sandbox,
                "self-test",
                "def f(x): return x * x",
                "assert f(3) == 9",
                RunVerdict::Passed,
            ));
            let liar = "class A(int):\n    def __eq__(self, o): return True\ndef f(x): return A(0)";
            let wanted = RunVerdict::FailedAssertion;
            checks.push(verdict(&sandbox, "forged equality", liar, "assert f(3) == 9", wanted));
        }
        Err(error) => checks.push(Check::broken("compiled code", error.to_string())),
    }
    checks
}

fn interpreter() -> Check {
    let found = packed_sha256();
    match found == PACKED_SHA256 {
        true => Check::good("interpreter", format!("{DESCRIPTION}, sha256 {SHA256}")),
        false => {
            let why = format!(
                "the bundled {DESCRIPTION} is damaged: packed sha256 {found}, expected {PACKED_SHA256}; install sipf again"
            );
            Check::broken("interpreter", why)
        }
    }
}

fn compiled_code(start: &Start) -> Check {
    let time = format!("{:.0} ms", start.took.as_secs_f64() * 1e3);
    let place = start.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    Check::good(
        "compiled code",
        match &start.found {
            Found::Hit => format!("hit, loaded in {time}: {place}"),
            Found::Written => format!("miss, compiled and written in {time}: {place}"),
            Found::Kept(why) => format!("not kept, so every start compiles (this one {time}): {why}"),
        },
    )
}

fn verdict(sandbox: &Sandbox, name: &'static str, source: &str, test: &str, wanted: RunVerdict) -> Check {
    let begun = Instant::now();
    let outcome = match sandbox.one(&Program::python(source).tests([test]).names(["f"])) {
        Ok(outcome) => outcome,
        Err(error) => return Check::broken(name, error.to_string()),
    };
    match outcome.verdict == wanted {
        true => Check::good(name, format!("{wanted} in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3)),
        false => {
            let why = outcome.explanation().unwrap_or_default();
            Check::broken(name, format!("{} where {wanted} is right: {why}", outcome.verdict))
        }
    }
}
