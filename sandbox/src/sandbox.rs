//! The sandbox as the rest of the project sees it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sipf_plugin::{Execute, Limits, Outcome, Program};

use crate::cache::{self, Start};
use crate::engine;
use crate::error::Result;
use crate::instance::{Door, Factory};
use crate::limits;
use crate::pool;
use crate::profile::Phases;
use crate::verdict::Court;

/// How the sandbox runs.
#[derive(Debug, Clone, Default)]
pub struct SandboxOptions {
    /// Verdicts at once; 0 means one a processor.
    pub threads: usize,
    /// Limits of programs that ask for none; zeros mean [`crate::limits`].
    pub limits: Limits,
    /// Folder for compiled code; `None` means [`cache::folder`].
    pub cache: Option<PathBuf>,
}

/// Runs model-written Python. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    court: Arc<Court>,
    threads: usize,
    limits: Limits,
    start: Start,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("threads", &self.threads).field("limits", &self.limits).finish()
    }
}

impl Sandbox {
    /// Makes the interpreter ready: milliseconds from the cache, else seconds of compiling.
    ///
    /// # Errors
    /// When the engine does not start or the bundled interpreter is damaged.
    pub fn new(options: SandboxOptions) -> Result<Self> {
        let engine = engine::engine()?;
        let folder = options.cache.or_else(cache::folder);
        let (component, start) = cache::component(engine, folder.as_deref())?;
        let court = Arc::new(Court::new(Factory::new(engine, &component)?));
        let threads =
            if options.threads == 0 { engine::slots() } else { options.threads.min(engine::slots()) };
        Ok(Self { court, threads, limits: limits::resolved(options.limits, Limits::default()), start })
    }

    /// How the interpreter came to be ready.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// Verdicts at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The limits of a program that asks for none.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// One program, on this sandbox's threads.
    ///
    /// # Errors
    /// When no instance can be made.
    pub fn one(&self, program: &Program) -> sipf_plugin::Result<Outcome> {
        let found = Mutex::new(None);
        self.run(std::slice::from_ref(program), &AtomicBool::new(false), &|_, outcome| {
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        });
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.unwrap_or_else(|| Err(sipf_plugin::Error::new("the sandbox gave no outcome")))
    }

    /// Runs programs as `next` gives them, at most [`Self::threads`] at once, and hands on the outcomes as they come.
    /// `next` is asked only when a worker is free: who waits in it holds the workers back.
    ///
    /// # Errors
    /// When no worker thread can be started.
    pub fn stream<T: Send>(
        &self,
        stop: &AtomicBool,
        next: &(dyn Fn() -> Option<(T, Program)> + Sync),
        done: &(dyn Fn(T, sipf_plugin::Result<Outcome>) + Sync),
    ) -> Result<()> {
        pool::drive(
            self.threads,
            stop,
            next,
            &|(_, program), interrupt| self.verdict(program, interrupt),
            &|(tag, _), outcome| {
                if let Some(outcome) = outcome {
                    done(tag, outcome);
                }
            },
        )
    }

    /// Where the CPU time of one verdict goes; the program must load and end.
    ///
    /// # Errors
    /// When no instance can be made, or the program does not load.
    pub fn phases(&self, program: &Program) -> Result<Phases> {
        let found = Mutex::new(None);
        let once = AtomicBool::new(true);
        pool::drive(
            1,
            &AtomicBool::new(false),
            &|| once.swap(false, Ordering::Relaxed).then_some(()),
            &|(), _| self.court.phases(program, &limits::resolved(program.limits, self.limits)),
            &|(), phases| *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(phases),
        )?;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.unwrap_or_else(|| Ok(Phases::default()))
    }

    /// Judges against replies that the caller makes up, in the place of a program: for tests of the codec.
    ///
    /// # Errors
    /// When no instance can be made.
    pub fn judge_replies(
        &self,
        program: &Program,
        reply: impl FnMut(Vec<u8>) -> Vec<u8> + Send + 'static,
    ) -> Result<Outcome> {
        let limits = limits::resolved(program.limits, self.limits);
        let interrupt = Arc::new(AtomicBool::new(false));
        let found = Mutex::new(None);
        let job = Mutex::new(Some(Some(reply)));
        let take = || job.lock().unwrap_or_else(PoisonError::into_inner).take();
        pool::drive(
            1,
            &interrupt,
            &take,
            &|reply: &mut Option<_>, interrupt| {
                let mut reply = reply.take()?;
                let door: Door = Box::new(move |request| Ok(reply(request)));
                let judged = self.court.judge(program, &limits, interrupt, door);
                Some(judged.map(|judged| judged.outcome(None, program.tests.len())))
            },
            &|_, outcome| *found.lock().unwrap_or_else(PoisonError::into_inner) = outcome,
        )?;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.unwrap_or_else(|| Ok(Outcome::default()))
    }

    fn verdict(
        &self,
        program: &Program,
        interrupt: &Arc<AtomicBool>,
    ) -> Option<sipf_plugin::Result<Outcome>> {
        let limits = limits::resolved(program.limits, self.limits);
        match self.court.verdict(program, &limits, interrupt) {
            Ok(outcome) => outcome.map(Ok),
            Err(_) if interrupt.load(Ordering::Relaxed) => None,
            Err(error) => Some(Ok(Outcome { message: error.to_string(), ..Outcome::default() })),
        }
    }
}

impl Execute for Sandbox {
    fn run(
        &self,
        programs: &[Program],
        stop: &AtomicBool,
        done: &(dyn Fn(usize, sipf_plugin::Result<Outcome>) + Sync),
    ) {
        let taken = AtomicUsize::new(0);
        let next = || Some(taken.fetch_add(1, Ordering::Relaxed)).filter(|&number| number < programs.len());
        let threads = self.threads.min(programs.len());
        let ran = pool::drive(
            threads,
            stop,
            &next,
            &|&mut number, interrupt| self.verdict(&programs[number], interrupt),
            &|number, outcome| {
                if let Some(outcome) = outcome {
                    done(number, outcome);
                }
            },
        );
        if let Err(error) = ran {
            for number in 0..programs.len() {
                done(number, Err(sipf_plugin::Error::new(error.to_string())));
            }
        }
    }
}
