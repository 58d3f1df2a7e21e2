//! What a task says about a completion: a verdict at once, or a program to run first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The answer of [`crate::Task::verify`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "check", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Check {
    /// Decided.
    Verdict(Verdict),
    /// Run this in the sandbox, then call [`crate::Task::judge`] with the outcome.
    Run(Program),
}

impl Check {
    /// Every rule compared with the truth; `passed` is what the first rule says.
    ///
    /// The host overrides `passed` where `--rule` names another rule.
    pub fn rules<const N: usize>(found: [(&str, Option<String>); N], truth: Option<&str>) -> Self {
        let mut verdict =
            Verdict { answer: found.first().and_then(|(_, a)| a.clone()), ..Verdict::default() };
        for (place, (rule, answer)) in found.into_iter().enumerate() {
            let right = answer.is_some() && answer.as_deref() == truth;
            verdict.passed |= place == 0 && right;
            verdict.by_rule.insert(rule.to_owned(), right);
        }
        Self::Verdict(verdict)
    }

    /// Run this program first.
    pub fn run(program: Program) -> Self {
        Self::Run(program)
    }
}

/// Whether a completion is right.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// Right by the rule that counts.
    pub passed: bool,
    /// What each of the task's answer rules says.
    pub by_rule: BTreeMap<String, bool>,
    /// The final answer found, in normal form.
    pub answer: Option<String>,
    /// One line for the reader of a report.
    pub message: Option<String>,
}

impl Verdict {
    /// A verdict without rules.
    pub fn new(passed: bool) -> Self {
        Self { passed, ..Self::default() }
    }

    /// Sets the message.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Sets the answer found.
    #[must_use]
    pub fn answer(mut self, answer: Option<String>) -> Self {
        self.answer = answer;
        self
    }
}

/// The language of a [`Program`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Language {
    /// CPython inside the sandbox.
    #[default]
    Python,
}

/// A program for the sandbox. `source` is the model's; `setup` and `tests` are ours and never share a namespace with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Program {
    /// The language of all its parts.
    pub language: Language,
    /// The untrusted source.
    pub source: String,
    /// Run by the judge before the tests, after the program is loaded.
    pub setup: String,
    /// Tests, each run by the judge; a test passes when it ends normally.
    pub tests: Vec<String>,
    /// The only names that come from the program, even where setup or a builtin has them; empty: every free name is asked of the program, which is weaker.
    pub names: Vec<String>,
    /// What it may use up; 0 means the sandbox's default.
    pub limits: Limits,
}

impl Program {
    /// A Python program.
    pub fn python(source: impl Into<String>) -> Self {
        Self { source: source.into(), ..Self::default() }
    }

    /// Sets the judge's setup code.
    #[must_use]
    pub fn setup(mut self, setup: impl Into<String>) -> Self {
        self.setup = setup.into();
        self
    }

    /// Sets the tests.
    #[must_use]
    pub fn tests<T: Into<String>>(mut self, tests: impl IntoIterator<Item = T>) -> Self {
        self.tests = tests.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the names that come from the program.
    #[must_use]
    pub fn names<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// What one program may use up. A zero means the sandbox's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Units of work (wasmtime fuel), the limit that decides.
    pub fuel: u64,
    /// Bytes of linear memory.
    pub memory_bytes: u64,
    /// Bytes on standard output and standard error together.
    pub output_bytes: u64,
}

/// How a program ended; reward 1 only for `Passed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunVerdict {
    /// Every test ended normally.
    Passed,
    /// `AssertionError` raised by the test code.
    FailedAssertion,
    /// Any other exception, also an `AssertionError` of the program.
    RuntimeError,
    /// The program does not compile.
    SyntaxError,
    /// Fuel, the virtual sleep budget or the safety net.
    Timeout,
    /// Memory.
    MemoryLimit,
    /// The stack.
    StackOverflow,
    /// Too much output, or too large a reply.
    OutputLimit,
    /// The program tried to leave: `SystemExit`, `KeyboardInterrupt`, a WASI exit.
    Exit,
    /// Any other trap.
    Crashed,
    /// A reply that the codec never produces.
    Tampering,
    /// The test needs what the value codec does not carry: no reward and no negative example.
    Unsupported,
    /// A defect of the sandbox, never a verdict.
    #[default]
    #[serde(other)]
    HostError,
}

impl RunVerdict {
    /// The name used in records, reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::FailedAssertion => "failed_assertion",
            Self::RuntimeError => "runtime_error",
            Self::SyntaxError => "syntax_error",
            Self::Timeout => "timeout",
            Self::MemoryLimit => "memory_limit",
            Self::StackOverflow => "stack_overflow",
            Self::OutputLimit => "output_limit",
            Self::Exit => "exit",
            Self::Crashed => "crashed",
            Self::Tampering => "tampering",
            Self::Unsupported => "unsupported",
            Self::HostError => "host_error",
        }
    }

    /// Whether the completion is neither right nor wrong, whatever the task's judge says.
    pub fn is_undecided(self) -> bool {
        matches!(self, Self::Unsupported | Self::HostError)
    }
}

impl std::fmt::Display for RunVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How one test ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TestOutcome {
    /// Its class.
    pub verdict: RunVerdict,
    /// One line: exception, test number or limit.
    pub message: String,
}

/// How often a test touched the program in ways worth knowing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Objects that stayed in the program.
    pub remotes: u64,
    /// Operations that the program decided on its own objects.
    pub delegated: u64,
    /// Values sent as their base class.
    pub lossy: u64,
    /// Operations refused because the codec does not carry them.
    pub unsupported: u64,
}

/// What the sandbox found. Holds no wall time: it is the same on every machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The class of the first test that did not pass, or of the load; `Passed` when every test passed.
    pub verdict: RunVerdict,
    /// One entry a test that ran; empty when the program did not load.
    pub tests: Vec<TestOutcome>,
    /// Why the program did not load; empty when it did.
    pub message: String,
    /// Fuel that the program used.
    pub fuel: u64,
    /// Largest linear memory of the program, in bytes.
    pub memory_bytes: u64,
    /// Whether a limit was hit on the way, even where the program survived it.
    pub limit_hit: bool,
    /// What crossed between judge and program.
    pub counters: Counters,
    /// What the program printed, cut at the output limit.
    pub stdout: String,
}

impl Outcome {
    /// The line that explains the verdict: the load's message, or the first failed test's.
    pub fn explanation(&self) -> Option<String> {
        if !self.message.is_empty() {
            return Some(self.message.clone());
        }
        let (number, test) = self.tests.iter().enumerate().find(|(_, t)| t.verdict != RunVerdict::Passed)?;
        Some(format!("test {number}: {}", test.message))
    }
}
