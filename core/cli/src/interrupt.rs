//! Ctrl-C, for every command: status 130. Work that looks at [`flag`] finishes what it is at, writes and leaves, and the
//! second signal ends the process at once; where no such work is under way, the first one does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

use crate::exit;

/// What the handlers read and set.
struct Signals {
    /// Someone asked to stop.
    asked: Arc<AtomicBool>,
    /// The next signal ends the process: nobody looks at `asked`, or it was set before.
    at_once: Arc<AtomicBool>,
}

fn signals() -> &'static Signals {
    static SIGNALS: OnceLock<Signals> = OnceLock::new();
    SIGNALS.get_or_init(|| {
        let signals = Signals { asked: Arc::default(), at_once: Arc::new(AtomicBool::new(true)) };
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds what the first one set.
            let status = exit::INTERRUPTED.into();
            let listening = register_conditional_shutdown(signal, status, signals.at_once.clone())
                .and_then(|_| register(signal, signals.asked.clone()))
                .and_then(|_| register(signal, signals.at_once.clone()));
            if let Err(error) = listening {
                exit::eprint_line(&format!("Ctrl-C will end this command as the system does: {error}"));
            }
        }
        signals
    })
}

/// Listens from here on, for a command that may never ask for the [`flag`].
pub(crate) fn listen() {
    signals();
}

/// What a stage looks at between two pieces of work: from the first call on, one signal asks and the second one ends.
pub(crate) fn flag() -> &'static AtomicBool {
    let signals = signals();
    if !signals.asked.load(Ordering::SeqCst) {
        signals.at_once.store(false, Ordering::SeqCst);
    }
    &signals.asked
}

/// Says of interrupted work where what is done of it lies.
pub(crate) fn kept<T>(result: sipf_core::Result<T>, place: &Path) -> anyhow::Result<T> {
    result.map_err(|error| match error {
        sipf_core::Error::Interrupted => anyhow::Error::new(error).context(format!(
            "{}: what is done is kept, give the same command again to go on",
            place.display()
        )),
        other => other.into(),
    })
}
