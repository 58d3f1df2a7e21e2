//! How far a stage is, on standard error only: one rewritten line with rate and time left on a terminal, a plain line
//! now and then otherwise, none where only what went wrong is to be said. Nothing else in the crate writes to the terminal or reads the clock for its results.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines where nobody watches.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// The same where more is to be said.
const VERBOSE_EVERY: Duration = Duration::from_secs(1);
/// Between two updates of a terminal's line.
const LIVE_EVERY: Duration = Duration::from_millis(100);

/// How much this process says on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Loudness {
    /// Only what went wrong.
    Quiet,
    /// Progress too.
    Normal,
    /// And more of it.
    Verbose,
}

static LOUDNESS: AtomicU8 = AtomicU8::new(Loudness::Normal as u8);

/// Sets it, once, before any work.
pub fn set_loudness(loudness: Loudness) {
    LOUDNESS.store(loudness as u8, Ordering::Relaxed);
}

/// How much is said.
pub fn loudness() -> Loudness {
    match LOUDNESS.load(Ordering::Relaxed) {
        0 => Loudness::Quiet,
        1 => Loudness::Normal,
        _ => Loudness::Verbose,
    }
}

/// The progress of one stage. Threads may share it.
#[derive(Debug)]
pub struct Progress {
    stage: String,
    unit: &'static str,
    total: Option<u64>,
    show: Show,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Nothing,
    /// What went wrong.
    Notes,
    Plain,
    Live,
}

#[derive(Debug)]
struct State {
    done: u64,
    /// Done before this process: not part of the rate.
    before: u64,
    started: Instant,
    shown: Option<Instant>,
    line_open: bool,
    /// Shown behind the rate.
    status: String,
}

impl Progress {
    /// A stage of `total` units, where that is known.
    pub fn new(stage: &str, total: Option<u64>, unit: &'static str) -> Self {
        let show = match (loudness(), std::io::stderr().is_terminal()) {
            (Loudness::Quiet, _) => Show::Notes,
            (_, true) => Show::Live,
            (_, false) => Show::Plain,
        };
        Self::with(stage, total, unit, show)
    }

    /// Shows nothing.
    pub fn quiet() -> Self {
        Self::with("", None, "", Show::Nothing)
    }

    fn with(stage: &str, total: Option<u64>, unit: &'static str, show: Show) -> Self {
        let state = State {
            done: 0,
            before: 0,
            started: Instant::now(),
            shown: None,
            line_open: false,
            status: String::new(),
        };
        Self { stage: stage.into(), unit, total, show, state: Mutex::new(state) }
    }

    /// `count` more units are done.
    pub fn add(&self, count: u64) {
        self.update(|state| state.done += count);
    }

    /// So much was done before, by a run that was stopped.
    pub fn advance_to(&self, done: u64) {
        self.update(|state| (state.done, state.before) = (done, done));
    }

    /// What is worth knowing beside the count, shown from the next update on.
    pub fn status(&self, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.status.clear();
        state.status.push_str(text);
    }

    /// A line that is no news of anything wrong.
    pub fn tell(&self, text: &str) {
        if self.show != Show::Notes {
            self.note(text);
        }
    }

    /// A line of its own: rows that are lost, work that is left out.
    pub fn note(&self, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.close_line(&mut state);
        if self.show != Show::Nothing {
            write(&format!("{}: {text}\n", self.stage));
        }
    }

    /// The last line.
    pub fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = self.line(&state);
        match self.show {
            Show::Nothing | Show::Notes => return,
            Show::Live => write(&format!("\r\x1b[2K{line}\n")),
            Show::Plain => write(&format!("{line}\n")),
        }
        state.line_open = false;
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let every = match self.show {
            Show::Nothing | Show::Notes => return,
            Show::Plain if loudness() == Loudness::Verbose => VERBOSE_EVERY,
            Show::Plain => PLAIN_EVERY,
            Show::Live => LIVE_EVERY,
        };
        if state.shown.unwrap_or(state.started).elapsed() < every {
            return;
        }
        state.shown = Some(Instant::now());
        let line = self.line(&state);
        match self.show {
            Show::Live => {
                state.line_open = true;
                write(&format!("\r\x1b[2K{line}"));
            }
            _ => write(&format!("{line}\n")),
        }
    }

    fn close_line(&self, state: &mut State) {
        if state.line_open {
            write("\n");
            state.line_open = false;
        }
    }

    fn line(&self, state: &State) -> String {
        let seconds = state.started.elapsed().as_secs_f64();
        let rate = (state.done - state.before) as f64 / seconds.max(1e-9);
        let mut line = match self.total {
            Some(total) => format!("{}: {}/{total} {}", self.stage, state.done, self.unit),
            None => format!("{}: {} {}", self.stage, state.done, self.unit),
        };
        if !state.status.is_empty() {
            line.push_str(", ");
            line.push_str(&state.status);
        }
        if state.done > state.before && seconds > 1.0 {
            line.push_str(&format!(", {rate:.1}/s"));
            if let Some(left) =
                self.total.and_then(|total| total.checked_sub(state.done)).filter(|left| *left > 0)
            {
                line.push_str(&format!(", {} left", duration(left as f64 / rate)));
            }
        }
        line
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.line_open {
            write("\n");
            state.line_open = false;
        }
    }
}

/// A closed terminal is no reason to fail.
fn write(text: &str) {
    let mut out = std::io::stderr();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_stage_count_and_total() {
        let progress = Progress::with("sample", Some(10), "questions", Show::Nothing);
        progress.add(3);
        let state = progress.state.lock().expect("not poisoned");
        assert_eq!(progress.line(&state), "sample: 3/10 questions");
        drop(state);
        progress.status("loss 0.5");
        let state = progress.state.lock().expect("not poisoned");
        assert_eq!(progress.line(&state), "sample: 3/10 questions, loss 0.5");
    }

    #[test]
    fn durations_are_short() {
        let told: Vec<String> = [5.2, 75.0, 7290.0].into_iter().map(duration).collect();
        assert_eq!(told, ["5 s", "1 min 15 s", "2 h 01 min"]);
    }
}
