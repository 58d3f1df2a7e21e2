//! A core WebAssembly module without imports: the WASM form of a plugin.
//!
//! The module can compute and nothing else: it has no clock, no files, no network, no randomness. It shares the
//! engine, its pool of instances and its kinds of limit with the interpreter: every call runs in a fresh instance, on
//! its own budget of fuel and memory, as one of the engine's turns. A trap costs that instance only.

use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sipf_plugin::call::Status;
use wasmtime::{Engine, InstancePre, Linker, Module, Store, Trap, TypedFunc, UpdateDeadline};

use crate::engine::{Permit, engine};
use crate::limits::{CPU_SECONDS, MEMORY, MODULE_FUEL, Memory};

/// The largest reply that is copied out, in bytes.
pub const MAX_REPLY: usize = 64 << 20;
/// Size of the reply block: two 32-bit words, pointer and length.
const BUFFER: u32 = 8;
/// Fuel to say what a panic said, on top of the call's.
const LAST_WORDS: u64 = 100_000_000;

/// Why a module was refused or a call failed: one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GuestError(String);

impl GuestError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// What a store holds for its instance: its memory, and the CPU time at which the net catches it.
struct State {
    memory: Memory,
    until: Duration,
}

/// A compiled module that can be called from several threads at once.
#[derive(Clone)]
pub struct GuestModule {
    engine: Engine,
    instance: InstancePre<State>,
}

impl GuestModule {
    /// Compiles a module and checks that it has no imports, the ABI's functions and the ABI's version.
    ///
    /// # Errors
    /// Says which import or function is at fault.
    pub fn load(bytes: &[u8]) -> Result<Self, GuestError> {
        let engine = engine().map_err(|error| GuestError::new(error.to_string()))?;
        let module = Module::new(engine, bytes)
            .map_err(|error| GuestError::new(format!("is no WebAssembly module: {}", first_line(&error))))?;
        if let Some(import) = module.imports().next() {
            return Err(GuestError::new(format!(
                "imports {}.{}: a plugin module may import nothing (build for wasm32-unknown-unknown)",
                import.module(),
                import.name()
            )));
        }
        let instance = Linker::new(engine)
            .instantiate_pre(&module)
            .map_err(|error| GuestError::new(first_line(&error)))?;
        let guest = Self { engine: engine.clone(), instance };
        let _turn = turn();
        let mut call = guest.enter()?;
        let version = call.ask::<(), u32>("sipf_abi", ())?;
        if version != sipf_plugin::abi::VERSION {
            return Err(GuestError::new(format!(
                "speaks plugin ABI {version}, this sipf speaks {}: rebuild it",
                sipf_plugin::abi::VERSION
            )));
        }
        Ok(guest)
    }

    /// One request: the status that `sipf_call` returned, and the reply.
    ///
    /// # Errors
    /// When the module traps, runs out of fuel or memory, or breaks the ABI.
    pub fn call(&self, request: &[u8]) -> Result<(i32, Vec<u8>), GuestError> {
        let _turn = turn();
        let mut call = self.enter()?;
        call.function::<(u32, u32), ()>("sipf_free")?;
        let length =
            u32::try_from(request.len()).map_err(|_| GuestError::new("the request is over 4 GiB"))?;
        let place = call.ask::<u32, u32>("sipf_alloc", length)?;
        let buffer = call.ask::<u32, u32>("sipf_alloc", BUFFER)?;
        let outside = |_| GuestError::new("broke the ABI: `sipf_alloc` gave a block outside its memory");
        call.memory.write(&mut call.store, place as usize, request).map_err(outside)?;
        let answer = call.function::<(u32, u32, u32), i32>("sipf_call")?;
        let status = match at_once(answer.call_async(&mut call.store, (place, length, buffer))) {
            Ok(status) => status,
            Err(error) => match call.panic_text(&error, buffer) {
                Some(text) => return Ok((Status::Panicked as i32, text)),
                None => return Err(call.trapped(&error)),
            },
        };
        if call.store.data().memory.denied {
            return Err(too_large());
        }
        // The instance is thrown away with all its blocks, so nothing is given back one by one.
        Ok((status, call.block(buffer)?.to_vec()))
    }

    fn enter(&self) -> Result<Call, GuestError> {
        let state = State {
            memory: Memory::new(MEMORY),
            until: crate::cputime::now() + Duration::from_secs(CPU_SECONDS),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|context| {
            Ok(match crate::cputime::now() > context.data().until {
                true => UpdateDeadline::Interrupt,
                false => UpdateDeadline::Continue(1),
            })
        });
        store.set_epoch_deadline(1);
        store.set_fuel(MODULE_FUEL).map_err(|error| GuestError::new(first_line(&error)))?;
        let instance = at_once(self.instance.instantiate_async(&mut store))
            .map_err(|error| trapped(&error, store.data().memory.denied))?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| GuestError::new("exports no memory named `memory`"))?;
        Ok(Call { store, instance, memory })
    }
}

/// One of the engine's turns.
fn turn() -> Option<Permit> {
    Permit::wait(&AtomicBool::new(false))
}

/// Runs a call on a stack of the engine's pool, so that the caller's own, of whatever size, is never the limit. A
/// module has nothing to wait for: the first look finds the result.
fn at_once<T>(call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(wasmtime::Error::msg("waits for something, and there is nothing to wait for")),
    }
}

struct Call {
    store: Store<State>,
    instance: wasmtime::Instance,
    memory: wasmtime::Memory,
}

impl Call {
    /// The bytes that a reply block points to.
    fn block(&self, buffer: u32) -> Result<&[u8], GuestError> {
        let outside = || GuestError::new("broke the ABI: the reply lies outside its memory");
        let memory = self.memory.data(&self.store);
        let word = |at: usize| {
            let bytes = memory.get(at..at.checked_add(4)?)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let (start, length) = word(buffer as usize).zip(word(buffer as usize + 4)).ok_or_else(outside)?;
        if length > MAX_REPLY {
            return Err(GuestError::new(format!(
                "a reply of {length} bytes is over the limit of {MAX_REPLY}"
            )));
        }
        start.checked_add(length).and_then(|end| memory.get(start..end)).ok_or_else(outside)
    }

    /// What the module kept of the panic that ended it: its optional function `sipf_panic` may still be asked.
    fn panic_text(&mut self, error: &wasmtime::Error, buffer: u32) -> Option<Vec<u8>> {
        if !matches!(error.downcast_ref::<Trap>(), Some(Trap::UnreachableCodeReached)) {
            return None;
        }
        let words = self.function::<u32, ()>("sipf_panic").ok()?;
        self.store.set_fuel(LAST_WORDS).ok()?;
        at_once(words.call_async(&mut self.store, buffer)).ok()?;
        self.block(buffer).ok().filter(|text| !text.is_empty()).map(<[u8]>::to_vec)
    }

    fn ask<P, R>(&mut self, name: &str, asked: P) -> Result<R, GuestError>
    where
        P: wasmtime::WasmParams + Sync,
        R: wasmtime::WasmResults + Sync,
    {
        let function = self.function::<P, R>(name)?;
        at_once(function.call_async(&mut self.store, asked)).map_err(|error| self.trapped(&error))
    }

    fn function<P, R>(&mut self, name: &str) -> Result<TypedFunc<P, R>, GuestError>
    where
        P: wasmtime::WasmParams,
        R: wasmtime::WasmResults,
    {
        self.instance.get_typed_func(&mut self.store, name).map_err(|_| {
            GuestError::new(format!(
                "has no function `{name}` of the ABI's type: is it built with `export_task!`?"
            ))
        })
    }

    fn trapped(&self, error: &wasmtime::Error) -> GuestError {
        trapped(error, self.store.data().memory.denied)
    }
}

fn too_large() -> GuestError {
    GuestError::new(format!("wanted more than {} MiB of memory", MEMORY >> 20))
}

fn trapped(error: &wasmtime::Error, denied: bool) -> GuestError {
    if denied || format!("{error:?}").contains("memory minimum size") {
        return too_large();
    }
    GuestError::new(match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => format!("used up its {MODULE_FUEL} units of fuel: does it loop for ever?"),
        Some(Trap::Interrupt) => format!("took {CPU_SECONDS} s of CPU time and was stopped"),
        Some(Trap::StackOverflow) => "overflowed its stack".to_owned(),
        Some(Trap::UnreachableCodeReached) => {
            "panicked, or gave up, without a word (it has no `sipf_panic`)".to_owned()
        }
        Some(trap) => format!("trapped: {trap}"),
        None => first_line(error),
    })
}

fn first_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}
