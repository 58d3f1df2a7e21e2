//! What one run may use up, and who counts it: fuel and memory inside wasmtime, output and sleep in the host.

use sipf_plugin::Limits;
use wasmtime::ResourceLimiter;

/// Default fuel of a program, and again of the tests: about 12 s of CPU here. 3.1e10 is one native CPU second; the
/// largest reference of MBPP (task 123) needs 8.5e10.
pub const FUEL: u64 = 100_000_000_000;
/// Fuel of one call of a task that is a Python file: about 5 s of CPU.
pub const TASK_FUEL: u64 = 40_000_000_000;
/// Fuel of one call of a plugin that is a WASM module: about 5 s of CPU, for its instructions take less than an interpreter's.
pub const MODULE_FUEL: u64 = 10_000_000_000;
/// Default linear memory of a program, in bytes. The interpreter itself has 28 MiB.
pub const MEMORY: u64 = 256 << 20;
/// Most linear memory that can be asked for, in bytes: the size of a pool slot.
pub const MAX_MEMORY: u64 = 512 << 20;
/// Default bytes on standard output and standard error together.
pub const OUTPUT: u64 = 1 << 20;
/// How much of the output is kept for [`sipf_plugin::Outcome::stdout`], in bytes.
pub const KEPT_OUTPUT: usize = 64 << 10;
/// The largest reply of a program to its judge, in bytes.
pub const MAX_REPLY: usize = 16 << 20;
/// How long a program may sleep on the virtual clock altogether, in nanoseconds.
pub const SLEEP: u64 = 10_000_000_000;
/// Stack of the WebAssembly code, in bytes: enough for Python to raise its own `RecursionError`.
pub const STACK: usize = 4 << 20;
/// CPU time after which an instance is stopped whatever its fuel says, in seconds: a net that nothing honest meets.
pub const CPU_SECONDS: u64 = 120;
/// Most WASI handles that an instance may hold.
pub(crate) const HANDLES: usize = 1000;
/// Most bytes that one call may pass from the guest to the host.
pub(crate) const PASSED: usize = 64 << 20;
const TABLE_ELEMENTS: usize = 200_000;

/// [`Limits`] with every zero replaced by a default.
pub(crate) fn resolved(asked: Limits, default: Limits) -> Limits {
    let pick = |asked: u64, default: u64, own: u64| match (asked, default) {
        (0, 0) => own,
        (0, default) => default,
        (asked, _) => asked,
    };
    Limits {
        fuel: pick(asked.fuel, default.fuel, FUEL),
        memory_bytes: pick(asked.memory_bytes, default.memory_bytes, MEMORY).min(MAX_MEMORY),
        output_bytes: pick(asked.output_bytes, default.output_bytes, OUTPUT),
    }
}

/// Counts linear memory and refuses growth past the limit.
pub(crate) struct Memory {
    limit: usize,
    /// Largest size asked for and granted.
    pub(crate) peak: usize,
    /// Whether growth was refused.
    pub(crate) denied: bool,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), peak: 0, denied: false }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limit {
            self.denied = true;
            return Ok(false);
        }
        self.peak = self.peak.max(desired);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired < TABLE_ELEMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_mean_the_default_and_memory_is_capped() {
        let all = resolved(Limits::default(), Limits::default());
        assert_eq!((all.fuel, all.memory_bytes, all.output_bytes), (FUEL, MEMORY, OUTPUT));
        let card = Limits { fuel: 5, memory_bytes: 0, output_bytes: 7 };
        let asked = Limits { fuel: 0, memory_bytes: u64::MAX, output_bytes: 9 };
        let got = resolved(asked, card);
        assert_eq!((got.fuel, got.memory_bytes, got.output_bytes), (5, MAX_MEMORY, 9));
    }
}
