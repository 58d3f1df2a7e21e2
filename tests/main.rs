//! One test binary for the whole workspace: linking is what a small change costs.
#![allow(clippy::unwrap_used, reason = "a test that meets an error fails, which is all it can do")]

mod cli_completions; // shell completions, the man page
mod cli_task; // `sipf task list|show`
mod doctor; // `sipf doctor`
mod evaluate; // `sipf evaluate`
mod flags; // flags that every command has, and what they do
mod generate; // `sipf generate`: the same bytes whatever the machine does
mod hub; // data sets by name from the Hub, a server on this machine in its place
mod input; // byte order marks
mod interrupt; // Ctrl-C, and standard output whose reader leaves
mod model; // `sipf model`, adapters, GGUF
mod plugin; // every transport, faults, the API's transcript, `sipf plugin`
mod report; // `sipf report`: the page about a run
mod run; // `sipf run` and `sipf plan`: the whole loop, killed and gone on with
mod sandbox; // untrusted Python: verdicts, limits, codec, cache, `sipf sandbox`
mod settings; // where settings come from, and what is refused before anything starts
mod stages; // `sipf sample`, `simulate`, `align pairs`: one stage on files, stopped and gone on with
mod tasks; // the built-in tasks on the real data sets, `sipf verify`
mod tidy; // the architecture's invariants
mod training; // `sipf sft`, `align`, `reward train`: resume, rows, evaluation, peers
mod verify; // `sipf verify` on rows that can and cannot be judged
mod writable; // results that cannot be written: said before any work

/// Blocks of this binary bear a mark, so that one which a plugin allocated is noticed when it is freed here.
#[global_allocator]
static ALLOCATOR: plugin::Marking = plugin::Marking;
