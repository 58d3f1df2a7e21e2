//! Ctrl-C: once asks the running stage to finish what it is at, write and leave; twice ends the process at once.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

use crate::exit;

/// What a stage looks at between two pieces of work. The first call starts to listen for the signals.
pub(crate) fn flag() -> &'static AtomicBool {
    static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    ASKED.get_or_init(|| {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds what the first one set.
            let listening = register_conditional_shutdown(signal, exit::INTERRUPTED.into(), asked.clone())
                .and_then(|_| register(signal, asked.clone()));
            if let Err(error) = listening {
                exit::eprint_line(&format!("Ctrl-C will end this command at once: {error}"));
            }
        }
        asked
    })
}
