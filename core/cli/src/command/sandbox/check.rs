//! `sipf sandbox check`: one program against every limit, and what came of it on this machine.

use std::process::ExitCode;

use serde::Serialize;
use sipf_plugin::{Limits, Outcome, Program, RunVerdict};
use sipf_sandbox::{DESCRIPTION, Found, PACKED_SHA256, SHA256, Sandbox, packed_sha256};

use super::open;
use crate::exit;

/// Enough for every probe, little enough that the endless loop ends at once.
const FUEL: u64 = 2_000_000_000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is tried, and the verdicts that show it is enforced.
struct Probe {
    name: &'static str,
    program: &'static str,
    test: &'static str,
    wanted: &'static [RunVerdict],
}

use RunVerdict::{
    Crashed, Exit, FailedAssertion, MemoryLimit, OutputLimit, Passed, RuntimeError, StackOverflow, Timeout,
};

const PROBES: &[Probe] = &[
    Probe {
        name: "a right program passes",
        program: "def f(x): return x * x",
        test: "assert f(3) == 9",
        wanted: &[Passed],
    },
    Probe {
        name: "a wrong program fails",
        program: "def f(x): return x",
        test: "assert f(3) == 9",
        wanted: &[FailedAssertion],
    },
    Probe {
        name: "an endless loop ends",
        program: "def f(x):\n    while True: pass",
        test: "assert f(3) == 9",
        wanted: &[Timeout],
    },
    Probe {
        name: "sleeping takes no time and is limited",
        program: "import time\ndef f(x): time.sleep(3600)",
        test: "assert f(3) == 9",
        wanted: &[Timeout],
    },
    Probe {
        name: "memory is limited",
        program: "def f(x):\n    a = []\n    while True: a.append(' ' * 1000000)",
        test: "assert f(3) == 9",
        wanted: &[MemoryLimit],
    },
    Probe {
        name: "the stack is limited",
        program: "def f(x): return f(x)",
        test: "assert f(3) == 9",
        wanted: &[StackOverflow],
    },
    Probe {
        name: "output is limited",
        program: "def f(x):\n    while True: print('x' * 1000)",
        test: "assert f(3) == 9",
        wanted: &[OutputLimit],
    },
    Probe {
        name: "leaving is no pass",
        program: "import os\ndef f(x): os._exit(0)",
        test: "assert f(3) == 9",
        wanted: &[Exit, RuntimeError, Crashed],
    },
    Probe {
        name: "no files",
        program: "def f(x): return open('/etc/passwd').read()",
        test: "assert f(3)",
        wanted: &[RuntimeError],
    },
    Probe {
        name: "no network",
        program: "import socket\ndef f(x): return socket.create_connection(('127.0.0.1', 80))",
        test: "assert f(3)",
        wanted: &[RuntimeError],
    },
    Probe {
        name: "no processes",
        program: "import subprocess\ndef f(x): return subprocess.run(['true'])",
        test: "assert f(3)",
        wanted: &[RuntimeError],
    },
    Probe {
        name: "no environment",
        program: "import os, sys\ndef f(x): return dict(os.environ)",
        test: "assert f(3) == {}",
        wanted: &[Passed],
    },
    Probe {
        name: "a lying == does not pass",
        program: "class A(int):\n    def __eq__(self, o): return True\ndef f(x): return A(0)",
        test: "assert f(3) == 9",
        wanted: &[FailedAssertion],
    },
    Probe {
        name: "no earlier program left a trace",
        program: "import builtins\ndef f(x): return hasattr(builtins, 'LEFT')",
        test: "assert f(3) is False",
        wanted: &[Passed],
    },
];

#[derive(Serialize)]
struct Tried<'a> {
    name: &'a str,
    verdict: RunVerdict,
    held: bool,
    message: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    holds: bool,
    interpreter: &'a str,
    sha256: &'a str,
    artifact_intact: bool,
    cache: String,
    start_ms: u128,
    limits: Limits,
    checks: Vec<Tried<'a>>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sandbox = open(0, Limits::default())?;
    let mut checks: Vec<Tried<'_>> = Vec::new();
    for probe in PROBES {
        let outcome = outcome(&sandbox, probe)?;
        checks.push(Tried {
            name: probe.name,
            verdict: outcome.verdict,
            held: probe.wanted.contains(&outcome.verdict),
            message: outcome.explanation().unwrap_or_default(),
        });
    }
    let same = outcome(&sandbox, &PROBES[0])?.fuel == outcome(&sandbox, &PROBES[0])?.fuel;
    let verdict = if same { Passed } else { RunVerdict::HostError };
    checks.push(Tried { name: "twice the same fuel", verdict, held: same, message: String::new() });
    let intact = packed_sha256() == PACKED_SHA256;
    let start = sandbox.start();
    let answer = Answer {
        holds: intact && checks.iter().all(|check| check.held),
        interpreter: DESCRIPTION,
        sha256: SHA256,
        artifact_intact: intact,
        cache: match (&start.found, &start.path) {
            (Found::Kept(why), _) => format!("not used: {why}"),
            (Found::Hit, Some(path)) => format!("{} (used)", path.display()),
            (_, Some(path)) => format!("{} (written)", path.display()),
            (_, None) => "none".into(),
        },
        start_ms: start.took.as_millis(),
        limits: sandbox.limits(),
        checks,
    };
    exit::print_line(&match args.json {
        true => serde_json::to_string(&answer)?,
        false => in_words(&answer),
    })?;
    Ok(if answer.holds { exit::DONE } else { exit::did_not_hold() })
}

fn outcome(sandbox: &Sandbox, probe: &Probe) -> sipf_plugin::Result<Outcome> {
    let limits = Limits { fuel: FUEL, ..Limits::default() };
    sandbox.one(&Program::python(probe.program).tests([probe.test]).names(["f"]).limits(limits))
}

fn in_words(answer: &Answer<'_>) -> String {
    let mut lines = vec![
        format!("interpreter  {} (sha256 {})", answer.interpreter, &answer.sha256[..16]),
        format!("artifact     {}", if answer.artifact_intact { "intact" } else { "DAMAGED" }),
        format!("cache        {}", answer.cache),
        format!("start        {} ms", answer.start_ms),
        format!(
            "limits       fuel {}, memory {} MiB, output {} KiB",
            answer.limits.fuel,
            answer.limits.memory_bytes >> 20,
            answer.limits.output_bytes >> 10
        ),
    ];
    for check in &answer.checks {
        let held = if check.held { "ok  " } else { "FAIL" };
        let gap = if check.message.is_empty() { "" } else { ": " };
        lines.push(format!("{held} {:<40} {}{gap}{}", check.name, check.verdict, check.message));
    }
    lines.join("\n")
}
