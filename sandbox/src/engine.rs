//! The one wasmtime engine of the process: fuel, epochs, pooled instances, and how many may run at once.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::error::{Error, Result};
use crate::limits::{MAX_MEMORY, STACK};

/// How often a running instance looks whether it should end.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Most verdicts in flight, whatever the machine has.
const MOST_SLOTS: usize = 64;

/// How many verdicts can be in flight in this process: one a processor.
pub fn slots() -> usize {
    static SLOTS: OnceLock<usize> = OnceLock::new();
    *SLOTS.get_or_init(|| std::thread::available_parallelism().map_or(2, |n| n.get()).clamp(2, MOST_SLOTS))
}

/// The engine; its epoch moves as long as the process lives.
pub(crate) fn engine() -> Result<&'static Engine> {
    static ENGINE: OnceLock<std::result::Result<Engine, String>> = OnceLock::new();
    let made = ENGINE.get_or_init(|| {
        let engine = Engine::new(&config()).map_err(|error| format!("{error:#}"))?;
        let ticked = engine.clone();
        std::thread::Builder::new()
            .name("sipf-epoch".into())
            .spawn(move || {
                loop {
                    std::thread::sleep(TICK);
                    ticked.increment_epoch();
                }
            })
            .map_err(|error| error.to_string())?;
        Ok(engine)
    });
    made.as_ref().map_err(|error| Error::Engine(error.clone()))
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .max_wasm_stack(STACK)
        .async_stack_size(STACK + (2 << 20)) // must exceed the WebAssembly stack, although nothing here is async
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    config
}

/// A verdict holds two component instances, a program and a judge; a task file holds one.
fn pool() -> PoolingAllocationConfig {
    let instances = 3 * slots() as u32 + 6;
    let mut pool = PoolingAllocationConfig::default();
    // componentize-py makes dozens of core instances of one component, hence the sizes per component.
    pool.total_component_instances(instances)
        .total_core_instances(60 * instances)
        .total_memories(4 * instances)
        .total_tables(20 * instances)
        .max_memory_size(MAX_MEMORY as usize)
        .table_elements(40_000)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_core_instances_per_component(60)
        .max_memories_per_component(20)
        .max_tables_per_component(40);
    pool
}

/// The right to have one verdict in flight; given back when dropped.
pub(crate) struct Permit;

static FREE: Mutex<Option<usize>> = Mutex::new(None);
static GIVEN_BACK: Condvar = Condvar::new();

impl Permit {
    /// Waits until fewer than [`slots`] verdicts are in flight.
    pub(crate) fn wait() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = free.get_or_insert_with(slots);
            if *left > 0 {
                *left -= 1;
                return Self;
            }
            free = GIVEN_BACK.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(left) = FREE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            *left += 1;
        }
        GIVEN_BACK.notify_one();
    }
}
