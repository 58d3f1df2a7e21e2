//! `sipf bench sandbox`: verdicts a second on a task's references beside two ways of running them natively, all
//! sides taking turns; or the same outcomes on any number of threads (`--same`); or memory over a long run (`--soak`).

mod peers;
mod same;
mod soak;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::{Value, json};
use sipf_core::dataset::{self, DataOptions};
use sipf_plugin::{Check, Execute, Outcome, Program, RunVerdict, Source};
use sipf_sandbox::{Phases, Sandbox, SandboxOptions};

use self::peers::{Clock, Peers};
use super::median;
use crate::given::at_least_one;
use crate::open::PluginFlags;

/// References that use more fuel than this are left out of the race: one of them alone takes seconds on every side.
const LIGHT: u64 = 10_000_000_000;
/// A loop that does nothing but compute, for the cost of WebAssembly itself.
const LOOP: &str =
    "def f(n):\n    s = 0\n    for i in range(n):\n        s = (s * 31 + i) % 1000003\n    return s\n";
const LOOP_TEST: &str = "assert f(2000000) >= 0";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The task whose reference solutions are run
    #[arg(long, value_name = "T", default_value = "mbpp")]
    task: String,
    /// A data folder or one file [default: the published files]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The first so many references
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>())]
    limit: Option<usize>,
    /// Verdicts at once, on every side
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    workers: u64,
    /// Turns of every side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    rounds: u64,
    /// The interpreter of the peers
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,
    /// Run all references three times, on 1, 1 and 2 threads, and compare everything about their outcomes
    #[arg(long, conflicts_with = "soak")]
    same: bool,
    /// Give so many verdicts, every tenth on a hostile program, and watch this process's memory
    #[arg(long, value_name = "VERDICTS", value_parser = at_least_one::<usize>())]
    soak: Option<usize>,
    #[command(flatten)]
    plugins: PluginFlags,
}

/// The figures, and whether what was checked beside them holds.
pub(super) fn run(args: &Args) -> anyhow::Result<(Value, bool)> {
    let references = references(args)?;
    match args.soak {
        Some(verdicts) => soak::run(&references, verdicts, args.workers as usize),
        None if args.same => same::run(&references),
        None => race(args, references).map(|value| (value, true)),
    }
}

/// A reference solution with its tests.
struct Reference {
    id: String,
    program: Program,
}

fn references(args: &Args) -> anyhow::Result<Vec<Reference>> {
    let task = args.plugins.task(&args.task)?;
    let mut found: Vec<Reference> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for split in dataset::splits(&*task) {
        // A split without an end is taken as far as it is asked for.
        let limit = args.limit.filter(|_| matches!(task.source(split), Ok(Source::Generated)));
        let options = DataOptions { data: args.data.clone(), limit, ..DataOptions::default() };
        for problem in dataset::load(&*task, split, &options)?.problems {
            let Some(solution) = &problem.solution else { continue };
            if let Check::Run(program) = task.verify(&problem, solution)?
                && seen.insert(serde_json::to_string(&program)?)
            {
                found.push(Reference { id: problem.id, program });
            }
        }
    }
    anyhow::ensure!(!found.is_empty(), "--task {}: it has no programs to run", args.task);
    found.truncate(args.limit.unwrap_or(usize::MAX));
    Ok(found)
}

fn open(threads: usize) -> sipf_sandbox::Result<Sandbox> {
    Sandbox::new(SandboxOptions { threads, ..SandboxOptions::default() })
}

fn outcomes(sandbox: &Sandbox, programs: &[Program]) -> Vec<Outcome> {
    let found = Mutex::new(vec![Outcome::default(); programs.len()]);
    sandbox.run(programs, &AtomicBool::new(false), &|number, outcome| {
        if let (Ok(outcome), Ok(mut found)) = (outcome, found.lock()) {
            found[number] = outcome;
        }
    });
    found.into_inner().unwrap_or_default()
}

fn race(args: &Args, references: Vec<Reference>) -> anyhow::Result<Value> {
    let workers = args.workers as usize;
    let sandbox = open(workers)?;
    let all: Vec<Program> = references.into_iter().map(|reference| reference.program).collect();
    let first = outcomes(&sandbox, &all);
    let rows: Vec<Program> = all
        .iter()
        .zip(&first)
        .filter(|(_, outcome)| outcome.verdict == RunVerdict::Passed && outcome.fuel < LIGHT)
        .map(|(program, _)| program.clone())
        .collect();
    let peers = Peers::new(&args.python, &rows, workers)?;
    let mut costs: [Vec<(f64, f64)>; 3] = Default::default();
    for _ in 0..args.rounds {
        for (side, costs) in costs.iter_mut().enumerate() {
            let clock = Clock::start();
            let passed = match side {
                0 => outcomes(&sandbox, &rows).iter().filter(|o| o.verdict == RunVerdict::Passed).count(),
                1 => peers.processes()?,
                _ => peers.forks()?,
            };
            costs.push(clock.stop());
            anyhow::ensure!(passed == rows.len(), "side {side}: {passed} of {} passed", rows.len());
        }
    }
    let [sipf, processes, forks] = costs.map(|costs| Side::new(rows.len(), &costs));
    Ok(json!({
        "task": args.task, "references": all.len(), "raced": rows.len(), "workers": workers, "rounds": args.rounds,
        "python": peers.version()?,
        "sipf": sipf.json(), "process": processes.json(), "fork": forks.json(),
        "process_over_sipf": { "wall": sipf.rate / processes.rate, "cpu": processes.cpu / sipf.cpu },
        "fork_over_sipf": { "wall": sipf.rate / forks.rate, "cpu": forks.cpu / sipf.cpu },
        "start_ms": start()?, "loop": computing(&sandbox, &peers)?, "phases_us": phases(&sandbox, &rows)?,
    }))
}

/// Medians over the rounds.
struct Side {
    /// Verdicts a second.
    rate: f64,
    /// CPU milliseconds a verdict, children included.
    cpu: f64,
}

impl Side {
    fn new(rows: usize, costs: &[(f64, f64)]) -> Self {
        Self {
            rate: median(costs.iter().map(|(wall, _)| rows as f64 / wall)),
            cpu: median(costs.iter().map(|(_, cpu)| 1e3 * cpu / rows as f64)),
        }
    }

    fn json(&self) -> Value {
        json!({ "verdicts_per_second": self.rate, "cpu_ms_per_verdict": self.cpu })
    }
}

/// Until the first verdict could be given: without and with compiled code in the cache.
fn start() -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    let ready = || -> anyhow::Result<f64> {
        let begun = Instant::now();
        Sandbox::new(SandboxOptions {
            cache: Some(folder.path().join("sipf")),
            ..SandboxOptions::default()
        })?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    };
    Ok(json!({ "cold": ready()?, "cached": ready()? }))
}

/// The least CPU time of three runs of [`LOOP`] on both sides, in seconds.
fn computing(sandbox: &Sandbox, peers: &Peers) -> anyhow::Result<Value> {
    let program = Program::python(LOOP).tests([LOOP_TEST]).names(["f"]);
    let (mut here, mut native) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..3 {
        let clock = Clock::start();
        anyhow::ensure!(sandbox.one(&program)?.verdict == RunVerdict::Passed, "the loop did not pass");
        here = here.min(clock.stop().1);
        let clock = Clock::start();
        peers.process(&program)?;
        native = native.min(clock.stop().1);
    }
    Ok(json!({ "sipf_s": here, "process_s": native, "sipf_over_process": here / native }))
}

/// Medians over the references, in microseconds of CPU.
fn phases(sandbox: &Sandbox, rows: &[Program]) -> anyhow::Result<Value> {
    let all = rows.iter().take(300).map(|row| sandbox.phases(row)).collect::<Result<Vec<Phases>, _>>()?;
    let of = |part: fn(&Phases) -> std::time::Duration| {
        median(all.iter().map(|phases| part(phases).as_secs_f64() * 1e6)).round()
    };
    Ok(json!({ "instantiate": of(|p| p.instantiate), "load": of(|p| p.load), "calls": of(|p| p.calls),
        "judge": of(|p| p.judge), "drop": of(|p| p.drop) }))
}
