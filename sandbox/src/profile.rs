//! Where the time of one verdict goes.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sipf_plugin::{Limits, Program};

use crate::cputime;
use crate::error::Result;
use crate::instance::Door;
use crate::verdict::Court;

/// CPU time of one verdict, by part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    /// Making the program's instance.
    pub instantiate: Duration,
    /// Running the program's source.
    pub load: Duration,
    /// The program's answers to the judge.
    pub calls: Duration,
    /// The judge, without those.
    pub judge: Duration,
    /// Giving the instance's memory back.
    pub drop: Duration,
}

impl Court {
    /// The steps of [`Court::verdict`] with a clock beside them, for a program that loads and ends.
    pub(crate) fn phases(&self, program: &Program, limits: &Limits) -> Result<Phases> {
        let mut lap = Lap(cputime::now());
        let interrupt = Arc::new(AtomicBool::new(false));
        let mut instance = self.factory.instance(limits, &interrupt)?;
        let instantiate = lap.next();
        instance.python.call_load(&mut instance.store, &program.source)?;
        let load = lap.next();
        let calls = Arc::new(Mutex::new(Duration::ZERO));
        let theirs = calls.clone();
        let side = Arc::new(Mutex::new(instance));
        let answering = side.clone();
        let door: Door = Box::new(move |request| {
            let begun = cputime::now();
            let mut instance = answering.lock().unwrap_or_else(PoisonError::into_inner);
            let instance = &mut *instance;
            let reply = instance.python.call_call(&mut instance.store, &request);
            *theirs.lock().unwrap_or_else(PoisonError::into_inner) += cputime::now() - begun;
            reply
        });
        self.judge(program, limits, &interrupt, door)?;
        let judge = lap.next();
        drop(side);
        let drop = lap.next();
        let calls = *calls.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Phases { instantiate, load, calls, judge: judge.saturating_sub(calls), drop })
    }
}

struct Lap(Duration);

impl Lap {
    fn next(&mut self) -> Duration {
        let now = cputime::now();
        let took = now - self.0;
        self.0 = now;
        took
    }
}
