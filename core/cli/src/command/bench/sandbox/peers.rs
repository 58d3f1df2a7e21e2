//! The same programs run natively: one `python3 -I -S` process each, and children forked from a warm interpreter.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context;
use sipf_plugin::Program;

/// What most projects do: a new interpreter for every program.
const PROCESS: &str = include_str!("process.py");
/// No start-up and no isolation at all: the fastest that native Python can be.
const FORK: &str = include_str!("fork.py");

/// Programs ready to be run by an interpreter of this machine.
pub(super) struct Peers<'a> {
    python: &'a str,
    rows: Vec<String>,
    workers: usize,
}

impl<'a> Peers<'a> {
    pub(super) fn new(python: &'a str, programs: &[Program], workers: usize) -> anyhow::Result<Self> {
        let rows = programs.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        Ok(Self { python, rows, workers })
    }

    pub(super) fn version(&self) -> anyhow::Result<String> {
        let told = Command::new(self.python).arg("--version").output();
        let told = told.with_context(|| format!("--python {}", self.python))?;
        Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned())
    }

    /// How many programs ended well, each in a process of its own.
    pub(super) fn processes(&self) -> anyhow::Result<usize> {
        let (taken, passed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers)
                .map(|_| {
                    scope.spawn(|| -> anyhow::Result<()> {
                        while let Some(row) = self.rows.get(taken.fetch_add(1, Ordering::Relaxed)) {
                            let well = self.feed(PROCESS, &[], row)?.0;
                            passed.fetch_add(usize::from(well), Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(ended) => ended,
                Err(_) => anyhow::bail!("a worker panicked"),
            })
        })?;
        Ok(passed.into_inner())
    }

    /// One program in a process of its own.
    pub(super) fn process(&self, program: &Program) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.feed(PROCESS, &[], &serde_json::to_string(program)?)?.0,
            "a native program failed"
        );
        Ok(())
    }

    /// How many programs ended well, each in a child of a warm interpreter.
    pub(super) fn forks(&self) -> anyhow::Result<usize> {
        let told = self.feed(FORK, &[&self.workers.to_string()], &self.rows.join("\n"))?.1;
        told.trim().parse().with_context(|| format!("the forking interpreter said {told:?}"))
    }

    fn feed(&self, script: &str, arguments: &[&str], input: &str) -> anyhow::Result<(bool, String)> {
        let mut child = Command::new(self.python)
            .args(["-I", "-S", "-c", script])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("--python {}", self.python))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let ended = child.wait_with_output()?;
        Ok((ended.status.success(), String::from_utf8_lossy(&ended.stdout).into_owned()))
    }
}

/// Wall time, and CPU time of this process and of its children that have ended.
pub(super) struct Clock {
    wall: Instant,
    cpu: f64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_seconds() }
    }

    /// Seconds since the start: wall, CPU.
    pub(super) fn stop(&self) -> (f64, f64) {
        (self.wall.elapsed().as_secs_f64(), cpu_seconds() - self.cpu)
    }
}

/// Linux tells it in hundredths; elsewhere it stays 0 and only wall time counts.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold anything; fields 14 to 17 follow it as 12 to 15.
    let ticks = stat.rsplit_once(')').map(|(_, rest)| {
        rest.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
    });
    ticks.unwrap_or(0.0) / 100.0
}
