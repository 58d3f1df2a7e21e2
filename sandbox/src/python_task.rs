//! A task written as one Python file: it runs inside the interpreter and answers the plugin API's calls as JSON.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use sipf_plugin::Limits;

use crate::engine::{Kept, Permit, engine};
use crate::error::{Error, Result};
use crate::guest::MAX_REPLY;
use crate::instance::{Factory, Instance};
use crate::limits::TASK_FUEL;
use crate::outcome::of_stop;
use crate::{cache, limits};

/// How many calls an instance answers before it is replaced.
const CALLS: u32 = 1024;
/// The ABI's status for a call that failed.
const FAILED: i32 = 1;

/// A loaded task file; calls may come from several threads.
pub struct PythonTask {
    factory: Factory,
    source: String,
    limits: Limits,
    idle: Mutex<Option<(Instance, u32, Kept)>>,
}

impl PythonTask {
    /// Runs the file once and checks that it is a task.
    ///
    /// # Errors
    /// With Python's own message, when the file does not run or lacks what a task needs.
    pub fn load(source: &str) -> Result<Self> {
        let engine = engine()?;
        let (component, _) = cache::component(engine, cache::folder().as_deref())?;
        let task = Self {
            factory: Factory::new(engine, &component)?,
            source: source.to_owned(),
            limits: limits::resolved(Limits { fuel: TASK_FUEL, ..Limits::default() }, Limits::default()),
            idle: Mutex::default(),
        };
        let instance = on_worker(|| task.fresh())??;
        task.keep(instance, 0);
        Ok(task)
    }

    /// One request of the plugin API: the ABI's status and the reply.
    ///
    /// # Errors
    /// When no interpreter can be started; a failing or looping function is a reply with status 1.
    pub fn call(&self, request: &[u8]) -> Result<(i32, Vec<u8>)> {
        on_worker(|| {
            let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (mut instance, calls) = match waiting {
                Some((instance, calls, _)) => (instance, calls),
                None => (self.fresh()?, 0),
            };
            instance.renew(self.limits.fuel, &Arc::new(AtomicBool::new(false)))?;
            let Instance { store, python, .. } = &mut instance;
            let reply = match python.call_task_call(&mut *store, request) {
                Ok(reply) => reply,
                Err(error) => {
                    let denied = store.data().memory.denied;
                    let told = of_stop(&error, denied, &self.limits, "the task");
                    return Ok((FAILED, told.message.into_bytes()));
                }
            };
            let answer = split(&reply);
            if calls + 1 < CALLS && !instance.store.data().memory.denied {
                self.keep(instance, calls + 1);
            }
            Ok(answer)
        })?
    }

    fn keep(&self, instance: Instance, calls: u32) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) =
            Kept::one().map(|kept| (instance, calls, kept));
    }

    fn fresh(&self) -> Result<Instance> {
        let mut instance = self.factory.instance(&self.limits, &Arc::new(AtomicBool::new(false)))?;
        let Instance { store, python, .. } = &mut instance;
        let text = match python.call_task_load(&mut *store, &self.source) {
            Ok(text) => text,
            Err(error) => {
                let denied = store.data().memory.denied;
                return Err(Error::Task(of_stop(&error, denied, &self.limits, "the task").message));
            }
        };
        match text.is_empty() {
            true => Ok(instance),
            false => Err(Error::Task(text)),
        }
    }
}

/// The status in decimal, a line end, the reply.
fn split(reply: &[u8]) -> (i32, Vec<u8>) {
    let broken = || (FAILED, b"the task's interpreter gave no reply".to_vec());
    let Some(end) = reply.iter().position(|&byte| byte == b'\n') else { return broken() };
    let status = std::str::from_utf8(&reply[..end]).ok().and_then(|text| text.parse().ok());
    match status {
        Some(status) if reply.len() <= MAX_REPLY => (status, reply[end + 1..].to_vec()),
        Some(_) => (FAILED, format!("a reply over {} MiB", MAX_REPLY >> 20).into_bytes()),
        None => broken(),
    }
}

/// Runs on a thread with a stack that the interpreter fits on, as one of the engine's verdicts in flight.
fn on_worker<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    let _permit = Permit::wait(&AtomicBool::new(false));
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("sipf-task".into())
            .stack_size(crate::pool::THREAD_STACK)
            .spawn_scoped(scope, work)?;
        worker.join().map_err(|_| Error::Engine("a worker thread panicked".into()))
    })
}
