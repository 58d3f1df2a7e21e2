//! One interpreter: its store, its limits, its door to the program, and what it says when it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use sipf_plugin::Limits;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::clock::{self, Clock};
use crate::limits::{CPU_SECONDS, HANDLES, Memory, PASSED};
use crate::output::Printed;

mod bindings {
    wasmtime::component::bindgen!({ path: "guest/wit", world: "python", imports: { default: trappable } });
}

pub(crate) use bindings::Python;
use bindings::{PythonImports, PythonPre};

/// Where the judge's requests go.
pub(crate) type Door = Box<dyn FnMut(Vec<u8>) -> wasmtime::Result<Vec<u8>> + Send>;

/// The program asked for what only a judge may ask.
#[derive(Debug, thiserror::Error)]
#[error("the program called the judge's door")]
pub(crate) struct WrongRole;

/// What a store holds for its instance.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    pub(crate) clock: Clock,
    pub(crate) memory: Memory,
    pub(crate) printed: Printed,
    pub(crate) door: Option<Door>,
    wasi: WasiCtx,
    interrupt: Arc<AtomicBool>,
    until: Duration,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl PythonImports for State {
    fn invoke(&mut self, request: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
        match self.door.as_mut() {
            Some(door) => door(request),
            None => Err(wasmtime::Error::new(WrongRole)),
        }
    }
}

/// The component, linked and ready to be instantiated.
pub(crate) struct Factory {
    engine: Engine,
    ready: PythonPre<State>,
}

/// One instance with its store.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) python: Python,
    fuel: u64,
}

impl Factory {
    pub(crate) fn new(engine: &Engine, component: &Component) -> wasmtime::Result<Self> {
        let mut linker = Linker::<State>::new(engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        clock::link(&mut linker)?;
        Python::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
        let ready = PythonPre::new(linker.instantiate_pre(component)?)?;
        Ok(Self { engine: engine.clone(), ready })
    }

    /// A fresh interpreter, in the state in which the component was built.
    pub(crate) fn instance(
        &self,
        limits: &Limits,
        interrupt: &Arc<AtomicBool>,
    ) -> wasmtime::Result<Instance> {
        let printed = Printed::new(limits.output_bytes);
        let wasi = outside(&printed);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let state = State {
            table,
            clock: Clock::new(),
            memory: Memory::new(limits.memory_bytes),
            printed,
            door: None,
            wasi,
            interrupt: interrupt.clone(),
            until: Duration::ZERO,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(PASSED);
        store.epoch_deadline_callback(|context| {
            let state = context.data();
            let over = state.interrupt.load(Ordering::Relaxed) || crate::cputime::now() > state.until;
            Ok(if over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
        });
        // Waking the interpreter is not the program's work: however little fuel it gets, it is the one to run out of it.
        arm(&mut store, u64::MAX)?;
        let python = self.ready.instantiate(&mut store)?;
        arm(&mut store, limits.fuel)?;
        Ok(Instance { store, python, fuel: limits.fuel })
    }
}

/// All that an instance sees of the world: somewhere to print, and random numbers that are always the same.
fn outside(printed: &Printed) -> WasiCtx {
    WasiCtx::builder()
        .stdout(printed.clone())
        .stderr(printed.clone())
        .max_random_size(1 << 20)
        .secure_random(rand::rngs::StdRng::seed_from_u64(7))
        .insecure_random(rand::rngs::StdRng::seed_from_u64(8))
        .insecure_random_seed(9)
        .allow_tcp(false)
        .allow_udp(false)
        .build()
}

fn arm(store: &mut Store<State>, fuel: u64) -> wasmtime::Result<()> {
    store.set_fuel(fuel)?;
    store.set_epoch_deadline(1);
    store.data_mut().until = crate::cputime::now() + Duration::from_secs(CPU_SECONDS);
    Ok(())
}

impl Instance {
    /// Gives the instance a new budget, time and random numbers for its next job: nothing that an earlier one printed,
    /// slept or drew counts.
    pub(crate) fn renew(&mut self, fuel: u64, interrupt: &Arc<AtomicBool>) -> wasmtime::Result<()> {
        self.fuel = fuel;
        let state = self.store.data_mut();
        state.interrupt = interrupt.clone();
        state.clock = Clock::new();
        state.printed.clear();
        state.wasi = outside(&state.printed);
        arm(&mut self.store, fuel)
    }

    /// Fuel used since the budget was given.
    pub(crate) fn used(&self) -> u64 {
        self.fuel - self.store.get_fuel().unwrap_or(0).min(self.fuel)
    }
}
