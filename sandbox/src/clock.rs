//! Time that belongs to the run: it starts at one instant, moves a microsecond at every look, and sleeping only adds.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::instance::State;
use crate::limits::SLEEP;

/// Seconds since 1970 at which every program starts.
pub(crate) const EPOCH: u64 = 1_700_000_000;
const START: u64 = 1_000_000_000;
const STEP: u64 = 1_000;
const SECOND: u64 = 1_000_000_000;

/// The program slept longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("slept longer than {} s", SLEEP / SECOND)]
pub(crate) struct Overslept;

/// The time of one instance, in nanoseconds.
pub(crate) struct Clock {
    now: u64,
    slept: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { now: START, slept: 0 }
    }

    fn look(&mut self) -> u64 {
        self.now += STEP;
        self.now
    }
}

struct Elapsed;

#[async_trait::async_trait]
impl Pollable for Elapsed {
    async fn ready(&mut self) {}
}

struct Virtual;

struct View<'a> {
    clock: &'a mut Clock,
    table: &'a mut ResourceTable,
}

impl HasData for Virtual {
    type Data<'a> = View<'a>;
}

impl View<'_> {
    fn sleep(&mut self, nanoseconds: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.clock.slept = self.clock.slept.saturating_add(nanoseconds);
        if self.clock.slept > SLEEP {
            return Err(wasmtime::Error::new(Overslept));
        }
        self.clock.now += nanoseconds;
        let over = self.table.push(Elapsed)?;
        subscribe(self.table, over)
    }
}

impl monotonic_clock::Host for View<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.look())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(STEP)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.sleep(when.saturating_sub(self.clock.now))
    }

    fn subscribe_duration(&mut self, nanoseconds: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.sleep(nanoseconds)
    }
}

impl wall_clock::Host for View<'_> {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = self.clock.look();
        Ok(wall_clock::Datetime { seconds: EPOCH + now / SECOND, nanoseconds: (now % SECOND) as u32 })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: STEP as u32 })
    }
}

/// Puts the virtual clock in the place of the machine's.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    fn view(state: &mut State) -> View<'_> {
        View { clock: &mut state.clock, table: &mut state.table }
    }
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<State, Virtual>(linker, view)?;
    wall_clock::add_to_linker::<State, Virtual>(linker, view)?;
    linker.allow_shadowing(false);
    Ok(())
}
