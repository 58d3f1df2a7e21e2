//! From what ended a call to one of the verdict classes, with the line that explains it.

use sipf_plugin::{Limits, RunVerdict, TestOutcome};
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

use crate::clock::Overslept;
use crate::instance::WrongRole;
use crate::output::Flooded;

/// A reply of the program over [`crate::limits::MAX_REPLY`].
#[derive(Debug, thiserror::Error)]
#[error("a value over {} MiB", crate::limits::MAX_REPLY >> 20)]
pub(crate) struct Oversized;

/// About as many bytes of a program's text stand in a message.
const LINE: usize = 500;

fn test(verdict: RunVerdict, message: impl Into<String>) -> TestOutcome {
    TestOutcome { verdict, message: message.into() }
}

/// The class of an instance that was stopped. `who` is `the program` or `the tests`.
pub(crate) fn of_stop(error: &wasmtime::Error, denied: bool, limits: &Limits, who: &str) -> TestOutcome {
    let memory = || {
        test(
            RunVerdict::MemoryLimit,
            format!("{who} needed more than {} MiB of memory", limits.memory_bytes >> 20),
        )
    };
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::OutOfFuel => test(
                RunVerdict::Timeout,
                format!("{who} used up the fuel ({} units): endless or too slow", limits.fuel),
            ),
            Trap::Interrupt => test(RunVerdict::Timeout, format!("{who} was stopped by the safety net")),
            Trap::StackOverflow => test(RunVerdict::StackOverflow, format!("{who} overflowed the stack")),
            _ if denied => memory(),
            trap => test(RunVerdict::Crashed, format!("{who} crashed the interpreter: {trap}")),
        };
    }
    if let Some(status) = error.downcast_ref::<I32Exit>() {
        return test(RunVerdict::Exit, format!("{who} left with status {}", status.0));
    }
    if let Some(slept) = error.downcast_ref::<Overslept>() {
        return test(RunVerdict::Timeout, format!("{who} {slept}"));
    }
    let chain = format!("{error:?}");
    if error.downcast_ref::<Flooded>().is_some() {
        return test(
            RunVerdict::OutputLimit,
            format!("{who} printed more than {} bytes", limits.output_bytes),
        );
    }
    if let Some(size) = error.downcast_ref::<Oversized>() {
        return test(RunVerdict::OutputLimit, format!("{who} returned {size}"));
    }
    if chain.contains("fuel allocated for hostcalls") {
        return test(RunVerdict::OutputLimit, format!("{who} passed more than the host takes in one call"));
    }
    if let Some(role) = error.downcast_ref::<WrongRole>() {
        return test(RunVerdict::Tampering, role.to_string());
    }
    if denied {
        return memory();
    }
    let line = chain.lines().find(|line| !line.trim().is_empty()).unwrap_or("").trim().to_owned();
    test(RunVerdict::Crashed, format!("{who} was stopped: {line}"))
}

/// The class of a program that did not load: `Type: message` as the program's side says it, which is not believed
/// further than that it is a failure.
pub(crate) fn of_load(text: &str) -> TestOutcome {
    let name = text.split([':', ' ']).next().unwrap_or("");
    let verdict = match name {
        "SyntaxError" | "IndentationError" | "TabError" => RunVerdict::SyntaxError,
        "MemoryError" if text.contains("Parser stack overflowed") => RunVerdict::StackOverflow,
        "MemoryError" => RunVerdict::MemoryLimit,
        "RecursionError" => RunVerdict::StackOverflow,
        "SystemExit" | "KeyboardInterrupt" | "GeneratorExit" => RunVerdict::Exit,
        _ => RunVerdict::RuntimeError,
    };
    test(verdict, one_line(text.trim_start_matches("Error: ")))
}

/// The class that the judge's guest names.
pub(crate) fn of_judge(class: &str, message: String) -> TestOutcome {
    let verdict = match class {
        "passed" => RunVerdict::Passed,
        "failed_assertion" => RunVerdict::FailedAssertion,
        "runtime_error" => RunVerdict::RuntimeError,
        "syntax_error" => RunVerdict::SyntaxError,
        "memory_limit" => RunVerdict::MemoryLimit,
        "stack_overflow" => RunVerdict::StackOverflow,
        "exit" => RunVerdict::Exit,
        "unsupported" => RunVerdict::Unsupported,
        _ => RunVerdict::Tampering,
    };
    test(verdict, one_line(&message))
}

/// Text that a program had a part in, on one line of at most [`LINE`] bytes or so; what would move a terminal's cursor or turn text around is escaped.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            if line.len() >= LINE {
                return line + "...";
            }
            match c.is_control()
                || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                true => line.extend(c.escape_default()),
                false => line.push(c),
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_never_counts_as_passed_or_undecided() {
        for text in ["passed: x", "Passed", "", "unsupported: x", "HostError: x", "Unsupported", "ok"] {
            assert_eq!(of_load(text).verdict, RunVerdict::RuntimeError, "{text}");
        }
    }

    #[test]
    fn messages_are_one_short_line_and_move_no_cursor() {
        assert_eq!(of_judge("runtime_error", "x y ".repeat(1 << 20)).message.len(), LINE + 3);
        let message = of_judge("runtime_error", "a\n b\x1b[2Jc \u{202e}d".into()).message;
        assert_eq!(message, "a b\\u{1b}[2Jc \\u{202e}d");
    }

    #[test]
    fn a_class_that_the_judge_does_not_know_is_tampering() {
        assert_eq!(of_judge("host_error", String::new()).verdict, RunVerdict::Tampering);
    }
}
