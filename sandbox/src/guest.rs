//! A core WebAssembly module without imports: the WASM form of a plugin.
//!
//! The module can compute and nothing else: it has no clock, no files, no network, no randomness. Every call runs in
//! a fresh instance with a deadline and a memory limit; a trap costs that instance only.

use std::sync::OnceLock;
use std::time::Duration;

use sipf_plugin::call::Status;
use wasmtime::{
    Config, Engine, InstancePre, Linker, Memory, Module, Store, StoreLimits, StoreLimitsBuilder, Trap,
    TypedFunc,
};

/// How long one call may take.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How much memory an instance may have, in bytes.
pub const MEMORY: usize = 256 << 20;
/// The largest reply that is copied out, in bytes.
pub const MAX_REPLY: usize = 64 << 20;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(10);
/// Size of the reply block: two 32-bit words, pointer and length.
const BUFFER: u32 = 8;

/// Why a module was refused or a call failed: one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GuestError(String);

impl GuestError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A compiled module that can be called from several threads at once.
#[derive(Clone)]
pub struct GuestModule {
    engine: Engine,
    instance: InstancePre<StoreLimits>,
}

impl GuestModule {
    /// Compiles a module and checks that it has no imports, the ABI's functions and the ABI's version.
    ///
    /// # Errors
    /// Says which import or function is at fault.
    pub fn load(bytes: &[u8]) -> Result<Self, GuestError> {
        let engine = engine()?;
        let module = Module::new(&engine, bytes)
            .map_err(|error| GuestError::new(format!("is no WebAssembly module: {}", first_line(&error))))?;
        if let Some(import) = module.imports().next() {
            return Err(GuestError::new(format!(
                "imports {}.{}: a plugin module may import nothing (build for wasm32-unknown-unknown)",
                import.module(),
                import.name()
            )));
        }
        let instance = Linker::new(&engine)
            .instantiate_pre(&module)
            .map_err(|error| GuestError::new(first_line(&error)))?;
        let guest = Self { engine, instance };
        let mut call = guest.enter()?;
        let abi = call.function::<(), u32>("sipf_abi")?;
        let version = abi.call(&mut call.store, ()).map_err(|error| trapped(&error))?;
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
    /// When the module traps, runs out of time or memory, or breaks the ABI.
    pub fn call(&self, request: &[u8]) -> Result<(i32, Vec<u8>), GuestError> {
        let mut call = self.enter()?;
        let alloc = call.function::<u32, u32>("sipf_alloc")?;
        let ask = call.function::<(u32, u32, u32), i32>("sipf_call")?;
        call.function::<(u32, u32), ()>("sipf_free")?;
        let length =
            u32::try_from(request.len()).map_err(|_| GuestError::new("the request is over 4 GiB"))?;
        let store = &mut call.store;
        let place = alloc.call(&mut *store, length).map_err(|error| trapped(&error))?;
        let buffer = alloc.call(&mut *store, BUFFER).map_err(|error| trapped(&error))?;
        let outside = |_| GuestError::new("broke the ABI: `sipf_alloc` gave a block outside its memory");
        call.memory.write(&mut *store, place as usize, request).map_err(outside)?;
        let status = match ask.call(&mut *store, (place, length, buffer)) {
            Ok(status) => status,
            Err(error) => match call.panic_text(&error, buffer) {
                Some(text) => return Ok((Status::Panicked as i32, text)),
                None => return Err(trapped(&error)),
            },
        };
        // The instance is thrown away with all its blocks, so nothing is given back one by one.
        Ok((status, call.block(buffer)?.to_vec()))
    }

    fn enter(&self) -> Result<Call, GuestError> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(MEMORY)
            .memories(1)
            .tables(4)
            .table_elements(100_000)
            .trap_on_grow_failure(true)
            .build();
        let mut store = Store::new(&self.engine, limits);
        store.limiter(|limits| limits);
        store.set_epoch_deadline((DEADLINE.as_millis() / TICK.as_millis()) as u64);
        let instance = self.instance.instantiate(&mut store).map_err(|error| trapped(&error))?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| GuestError::new("exports no memory named `memory`"))?;
        Ok(Call { store, instance, memory })
    }
}

struct Call {
    store: Store<StoreLimits>,
    instance: wasmtime::Instance,
    memory: Memory,
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
        self.function::<u32, ()>("sipf_panic").ok()?.call(&mut self.store, buffer).ok()?;
        self.block(buffer).ok().filter(|text| !text.is_empty()).map(<[u8]>::to_vec)
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
}

fn trapped(error: &wasmtime::Error) -> GuestError {
    GuestError::new(match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => format!("ran longer than {} s and was stopped", DEADLINE.as_secs()),
        Some(Trap::StackOverflow) => "overflowed its stack".to_owned(),
        Some(Trap::UnreachableCodeReached) => {
            "panicked, or gave up, without a word (it has no `sipf_panic`)".to_owned()
        }
        Some(trap) => format!("trapped: {trap}"),
        None if format!("{error:?}").contains("growing memory")
            || format!("{error:?}").contains("memory minimum size") =>
        {
            format!("wanted more than {} MiB of memory", MEMORY >> 20)
        }
        None => first_line(error),
    })
}

fn first_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// One engine for all modules; a thread moves its epoch.
fn engine() -> Result<Engine, GuestError> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    let made = ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.epoch_interruption(true).max_wasm_stack(1 << 20);
        let engine = Engine::new(&config).map_err(|error| first_line(&error))?;
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("sipf-epoch".into())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                }
            })
            .map_err(|error| error.to_string())?;
        Ok(engine)
    });
    made.clone().map_err(GuestError::new)
}
