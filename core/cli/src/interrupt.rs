//! Ctrl-C: once asks the running stage to finish what it is at, write and leave; twice ends the process at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit;

/// What a stage looks at between two pieces of work. The first call starts to listen for the signal.
pub(crate) fn flag() -> &'static AtomicBool {
    static ASKED: AtomicBool = AtomicBool::new(false);
    static LISTENS: OnceLock<()> = OnceLock::new();
    LISTENS.get_or_init(|| {
        let listening = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::Relaxed) {
                std::process::exit(exit::INTERRUPTED.into());
            }
            exit::eprint_line("\nstopping after this step; press Ctrl-C again to stop at once");
        });
        if let Err(error) = listening {
            exit::eprint_line(&format!("Ctrl-C will end this command at once: {error}"));
        }
    });
    &ASKED
}
