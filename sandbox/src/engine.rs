//! The one wasmtime engine of the process: fuel, epochs, pooled instances, and how many may run at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::error::{Error, Result};
use crate::limits::{MAX_MEMORY, STACK};

/// How often a running instance looks whether it should end.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// How often who waits for a turn looks whether to stop waiting.
const LOOK: Duration = Duration::from_millis(50);
/// Instances that may wait between jobs beside one judge a slot.
const SPARE: usize = 6;
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
        .async_stack_size(STACK + (2 << 20)) // calls of plugin modules run on such stacks, for their own sake
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    config
}

/// A verdict holds two component instances, a program and a judge; beside them wait judges and task files ([`Kept`]).
fn pool() -> PoolingAllocationConfig {
    let instances = (3 * slots() + SPARE) as u32;
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
        .max_tables_per_component(40)
        .max_tables_per_module(4)
        .total_stacks(slots() as u32);
    pool
}

/// The right to have one verdict in flight; given back when dropped.
pub(crate) struct Permit;

/// How many may still enter, and who waits, in the order in which they came: a long batch never starves a short one.
struct Queue {
    free: usize,
    waiting: VecDeque<u64>,
    next: u64,
}

static QUEUE: Mutex<Option<Queue>> = Mutex::new(None);
static MOVED: Condvar = Condvar::new();

impl Permit {
    /// Waits for its turn among at most [`slots`] verdicts in flight; `None` once `stop` is true.
    pub(crate) fn wait(stop: &AtomicBool) -> Option<Self> {
        let mut guard = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mine = None;
        loop {
            let queue =
                guard.get_or_insert_with(|| Queue { free: slots(), waiting: VecDeque::new(), next: 0 });
            let mine = *mine.get_or_insert_with(|| {
                queue.waiting.push_back(queue.next);
                queue.next += 1;
                queue.next - 1
            });
            let stopped = stop.load(Ordering::Relaxed);
            let entered = !stopped && queue.free > 0 && queue.waiting.front() == Some(&mine);
            if entered || stopped {
                queue.waiting.retain(|&waiting| waiting != mine);
                queue.free -= usize::from(entered);
                MOVED.notify_all();
                // Not `then_some`: a permit that is made and dropped here would wait for the lock that is held.
                return entered.then(|| Self);
            }
            guard = MOVED.wait_timeout(guard, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(queue) = QUEUE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            queue.free += 1;
        }
        MOVED.notify_all();
    }
}

/// The right to keep an instance between two jobs; given back when dropped. Verdicts in flight never lack a slot
/// because of what waits.
pub(crate) struct Kept;

static KEPT: AtomicUsize = AtomicUsize::new(0);

impl Kept {
    /// `None` when enough is kept already.
    pub(crate) fn one() -> Option<Self> {
        let room = |kept| (kept < slots() + SPARE).then_some(kept + 1);
        KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok().map(|_| Self)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_came_first_enters_first_and_a_stopped_one_leaves_the_queue() {
        let never = AtomicBool::new(false);
        let mut held: Vec<_> = (0..slots()).map(|_| Permit::wait(&never).expect("free")).collect();
        let order = Mutex::new(Vec::new());
        let waiting = || QUEUE.lock().unwrap().as_ref().map_or(0, |queue| queue.waiting.len());
        std::thread::scope(|scope| {
            for number in 0..6 {
                let (order, never) = (&order, &never);
                scope.spawn(move || {
                    let stopped = AtomicBool::new(number == 2);
                    let permit = Permit::wait(if number == 2 { &stopped } else { never });
                    assert_eq!(permit.is_none(), number == 2);
                    order.lock().unwrap().push(number);
                });
                while waiting() + order.lock().unwrap().len() < number + 1 {
                    std::thread::yield_now();
                }
            }
            assert_eq!(*order.lock().unwrap(), [2]);
            // One slot passes from hand to hand; the others stay taken.
            drop(held.pop());
        });
        assert_eq!(order.into_inner().unwrap(), [2, 0, 1, 3, 4, 5]);
    }
}
