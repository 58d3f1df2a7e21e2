//! Exit statuses and the last words of a failed command.

use std::process::ExitCode;

use sipf_core::progress::{self, Loudness};

/// It did what was asked.
pub(crate) const DONE: ExitCode = ExitCode::SUCCESS;

/// Stopped by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// What a shell says of a program that SIGPIPE ended.
const READER_LEFT: u8 = 141;

/// It ran and something did not hold.
pub(crate) fn did_not_hold() -> ExitCode {
    ExitCode::from(1)
}

/// It could not start.
pub(crate) fn could_not_start() -> ExitCode {
    ExitCode::from(2)
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

/// Standard output goes to a reader that has seen enough, as `head` does: the command ends without a word.
#[derive(Debug)]
struct ReaderLeft;

impl std::fmt::Display for ReaderLeft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for ReaderLeft {}

/// Names what could not be written: `place` is standard output, or a flag and its file.
pub(crate) fn unwritten(error: std::io::Error, place: &str) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => ReaderLeft.into(),
        _ => anyhow::Error::new(error).context(place.to_owned()),
    }
}

fn has_no_reader(error: &anyhow::Error) -> bool {
    let inner = error.downcast_ref::<EndedEarly>().map(|early| &early.0);
    error.is::<ReaderLeft>() || inner.is_some_and(has_no_reader)
}

/// Whether the user asked to stop.
pub(crate) fn is_interrupted(error: &anyhow::Error) -> bool {
    let is = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref::<sipf_core::Error>(), Some(sipf_core::Error::Interrupted))
    };
    error.chain().any(is)
}

/// Prints the whole chain of causes and picks the status: 130 interrupted, 141 standard output without a reader, 1 ended
/// early, 2 could not start.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if has_no_reader(error) {
        return ExitCode::from(READER_LEFT);
    }
    eprint_line(&format!("sipf: {error:#}"));
    if is_interrupted(error) {
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

/// A line on standard error that is no news of anything wrong: nothing with `--quiet`.
pub(crate) fn tell(line: &str) {
    if progress::loudness() > Loudness::Quiet {
        eprint_line(line);
    }
}

/// A line on standard error with `--verbose`.
pub(crate) fn tell_more(line: &str) {
    if progress::loudness() == Loudness::Verbose {
        eprint_line(line);
    }
}

/// Where models run: said where it is no CPU, or with `--verbose`.
pub(crate) fn tell_device(is_cpu: bool, why: &str) {
    let line = format!("device: {why}");
    if is_cpu { tell_more(&line) } else { tell(&line) }
}

/// One line on standard output.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn print_line(line: &str) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").map_err(|error| unwritten(error, "standard output"))
}
