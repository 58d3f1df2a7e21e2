//! What the sandbox's tests share: one sandbox, and rows of programs.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};

use serde_json::Value;
use sipf_plugin::{Execute, Limits, Outcome, Program, RunVerdict};
use sipf_sandbox::{Sandbox, SandboxOptions};

mod attacks;
mod cache;
mod codec;
mod command;
mod judge;
mod limits;
mod references;
mod task_file;

/// One sandbox for all tests, on two threads.
fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| on(2))
}

fn on(threads: usize) -> Sandbox {
    Sandbox::new(SandboxOptions { threads, ..SandboxOptions::default() }).unwrap()
}

fn run(sandbox: &Sandbox, programs: &[Program]) -> Vec<Outcome> {
    let outcomes = Mutex::new(vec![None; programs.len()]);
    sandbox.run(programs, &AtomicBool::new(false), &|number, outcome| {
        let before = outcomes.lock().unwrap()[number].replace(outcome.unwrap());
        assert!(before.is_none(), "program {number} got two outcomes");
    });
    outcomes.into_inner().unwrap().into_iter().map(Option::unwrap).collect()
}

fn one(program: Program) -> Outcome {
    run(sandbox(), &[program]).remove(0)
}

/// A program, a test, and the name `f`.
fn asked(source: &str, test: &str) -> Program {
    Program::python(source)
        .tests([test])
        .names(["f"])
        .limits(Limits { fuel: 5_000_000_000, ..Limits::default() })
}

fn verdict(source: &str, test: &str) -> RunVerdict {
    one(asked(source, test)).verdict
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(row: &Value, key: &str) -> Vec<String> {
    let list = row[key].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn program(row: &Value) -> Program {
    Program::python(row["program"].as_str().unwrap())
        .setup(row["setup"].as_str().unwrap_or_default())
        .tests(texts(row, "tests"))
        .names(texts(row, "names"))
}
