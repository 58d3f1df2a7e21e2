//! Exit statuses and the last words of a failed command.

use std::process::ExitCode;

use anyhow::Context;

/// It did what was asked.
pub(crate) const DONE: ExitCode = ExitCode::SUCCESS;

/// Stopped by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// It ran and something did not hold.
pub(crate) fn did_not_hold() -> ExitCode {
    ExitCode::from(1)
}

/// It ran and something did not hold, or a stage ended early: exit 1. Anything else is "could not start": exit 2.
#[derive(Debug)]
pub(crate) struct EndedEarly(pub(crate) anyhow::Error);

impl std::fmt::Display for EndedEarly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for EndedEarly {}

/// Prints the whole chain of causes and picks the status: 130 interrupted, 1 ended early, 2 could not start.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprint_line(&format!("sipf: {error:#}"));
    if error
        .chain()
        .any(|cause| matches!(cause.downcast_ref::<sipf_core::Error>(), Some(sipf_core::Error::Interrupted)))
    {
        return ExitCode::from(INTERRUPTED);
    }
    let ended_early = error.downcast_ref::<EndedEarly>().is_some()
        || error
            .chain()
            .any(|cause| matches!(cause.downcast_ref(), Some(sipf_core::Error::EndedEarly { .. })));
    ExitCode::from(if ended_early { 1 } else { 2 })
}

/// One line on standard error; a closed pipe is no reason to fail.
pub(crate) fn eprint_line(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One line on standard error of what is good to know; `--quiet` leaves it out.
pub(crate) fn tell(line: &str) {
    if !sipf_core::progress::is_quiet() {
        eprint_line(line);
    }
}

/// One line on standard output.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn print_line(line: &str) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").context("standard output")
}
