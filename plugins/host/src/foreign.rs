//! The traits `Task` and `RewardModel` over any transport: one JSON request a call.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sipf_plugin::call::Status;
use sipf_plugin::{
    Check, Manifest, Measure, Outcome, Piece, Problem, Result, RewardCard, RewardModel, Role, Row, Signature,
    Source, Split, Step, Task, TaskCard, Verdict, default,
};

use crate::transport::{Kind, Transport};

/// After so many panics a plugin is not called any more.
pub const MAX_PANICS: u32 = 100;

/// A loaded plugin file with its manifest.
pub struct Library {
    path: PathBuf,
    transport: Box<dyn Transport>,
    manifest: Manifest,
    panics: AtomicU32,
}

impl Library {
    /// Shakes hands over a fresh transport.
    ///
    /// # Errors
    /// When the plugin does not answer, or this host cannot use what it exports.
    pub fn new(path: &Path, transport: Box<dyn Transport>) -> crate::Result<Arc<Self>> {
        let refused = |message: String| crate::Error::refused(path, message);
        let mut library = Self {
            path: path.to_path_buf(),
            transport,
            manifest: Manifest::default(),
            panics: AtomicU32::new(0),
        };
        let manifest: Manifest = library
            .ask("", "manifest", json!({}))
            .and_then(|found| found.ok_or_else(|| "does not answer the call `manifest`".into()))
            .map_err(|error| refused(error.to_string()))?;
        manifest.check().map_err(|error| refused(error.to_string()))?;
        if library.transport.kind() == Kind::Native && manifest.panic == "abort" {
            return Err(refused(
                "is built with panic = \"abort\", so one panic would end the run: use \"unwind\"".into(),
            ));
        }
        library.manifest = manifest;
        Ok(Arc::new(library))
    }

    /// What it exports.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How it was loaded.
    pub fn kind(&self) -> Kind {
        self.transport.kind()
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The task of this name.
    pub fn task(self: &Arc<Self>, name: &str) -> Option<Arc<dyn Task>> {
        let card = self.manifest.tasks.iter().find(|card| card.name == name)?.clone();
        Some(Arc::new(ForeignTask { library: self.clone(), card }))
    }

    /// The reward model of this name.
    pub fn reward(self: &Arc<Self>, name: &str) -> Option<Arc<dyn RewardModel>> {
        let card = self.manifest.rewards.iter().find(|card| card.name == name)?.clone();
        Some(Arc::new(ForeignRewardModel { library: self.clone(), card }))
    }

    /// An error that names plugin, file and call.
    fn error(&self, export: &str, call: &str, message: &str) -> sipf_plugin::Error {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let who = if export.is_empty() { file.into_owned() } else { format!("{export} ({file})") };
        sipf_plugin::Error::new(format!("plugin {who}, call {call}: {message}"))
    }

    /// Asks one thing. `None`: the plugin does not know the call, the host's default counts.
    fn ask<T: DeserializeOwned>(&self, export: &str, call: &str, mut request: Value) -> Result<Option<T>> {
        let named = |message: String| self.error(export, call, &message);
        // What no other row would fare better with.
        let fatal = |message: String| sipf_plugin::Error::fatal(named(message).to_string());
        if self.panics.load(Ordering::Relaxed) >= MAX_PANICS {
            return Err(fatal(format!("not called any more, it panicked {MAX_PANICS} times")));
        }
        request["plugin"] = export.into();
        request["call"] = call.into();
        let (status, reply) = self.transport.call(request.to_string().as_bytes()).map_err(named)?;
        let text = || String::from_utf8_lossy(&reply).into_owned();
        match Status::of(status) {
            Some(Status::Ok) => match serde_json::from_slice(&reply) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(named(format!("answered with something else than asked: {error}"))),
            },
            Some(Status::Failed) => Err(named(text())),
            Some(Status::Panicked) => {
                self.panics.fetch_add(1, Ordering::Relaxed);
                Err(named(format!("panicked: {}", text())))
            }
            Some(Status::Unknown) => Ok(None),
            Some(Status::Malformed) => Err(fatal(format!("could not read the request: {}", text()))),
            None => Err(fatal(format!("broke the ABI: returned status {status}"))),
        }
    }
}

struct ForeignTask {
    library: Arc<Library>,
    card: TaskCard,
}

impl ForeignTask {
    fn ask<T: DeserializeOwned>(&self, call: &str, request: Value) -> Result<Option<T>> {
        self.library.ask(&self.card.name, call, request)
    }

    /// For calls without a default.
    fn must<T: DeserializeOwned>(&self, call: &str, request: Value) -> Result<T> {
        let missing =
            || self.library.error(&self.card.name, call, "is not answered, and there is no default");
        self.ask(call, request)?.ok_or_else(missing)
    }

    /// For calls with a default.
    fn or<T: DeserializeOwned>(
        &self,
        call: &str,
        request: Value,
        default: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.ask(call, request)?.map_or_else(default, Ok)
    }
}

impl Task for ForeignTask {
    fn card(&self) -> TaskCard {
        self.card.clone()
    }
    fn source(&self, split: Split) -> Result<Source> {
        self.or("source", json!({ "split": split }), || default::source(split))
    }
    fn generate(&self, split: Split, index: u64) -> Result<Row> {
        self.or("generate", json!({ "split": split, "index": index }), || default::generate(split, index))
    }
    fn problems(&self, row: &Row, split: Split) -> Result<Vec<Problem>> {
        self.must("problems", json!({ "row": row, "split": split }))
    }
    fn prompt(&self, problem: &Problem, role: Role) -> Result<String> {
        self.must("prompt", json!({ "problem": problem, "role": role }))
    }
    fn verify(&self, problem: &Problem, completion: &str) -> Result<Check> {
        self.must("verify", json!({ "problem": problem, "completion": completion }))
    }
    fn judge(&self, problem: &Problem, outcome: &Outcome) -> Result<Verdict> {
        self.or("judge", json!({ "problem": problem, "outcome": outcome }), || default::judge(outcome))
    }
    fn clean(&self, problem: &Problem, raw: &str) -> Result<String> {
        self.or("clean", json!({ "problem": problem, "raw": raw }), || default::clean(raw))
    }
    fn steps(&self, problem: &Problem, completion: &str) -> Result<Vec<Step>> {
        let request = json!({ "problem": problem, "completion": completion });
        let steps = self.or("steps", request, || default::steps(completion))?;
        sipf_plugin::conformance::check_steps(completion, &steps)
            .map_err(|error| self.library.error(&self.card.name, "steps", error.message()))?;
        Ok(steps)
    }
    fn answer(&self, completion: &str) -> Result<Option<String>> {
        self.or("answer", json!({ "completion": completion }), || Ok(None))
    }
    fn signature(&self, problem: &Problem, completion: &str) -> Result<Signature> {
        let request = json!({ "problem": problem, "completion": completion });
        self.or("signature", request, || default::signature(completion))
    }
    fn shots(&self) -> Result<Vec<Problem>> {
        self.or("shots", json!({}), || Ok(Vec::new()))
    }
    fn measure(&self, problem: &Problem, completion: &str, verdict: &Verdict) -> Result<Vec<Measure>> {
        let request = json!({ "problem": problem, "completion": completion, "verdict": verdict });
        self.or("measure", request, || Ok(Vec::new()))
    }
    fn step_truth(&self, problem: &Problem, completion: &str) -> Result<Option<Vec<bool>>> {
        self.or("step_truth", json!({ "problem": problem, "completion": completion }), || Ok(None))
    }
    fn fixtures(&self) -> Result<Vec<Row>> {
        self.or("fixtures", json!({}), || default::fixtures(self))
    }
}

struct ForeignRewardModel {
    library: Arc<Library>,
    card: RewardCard,
}

impl RewardModel for ForeignRewardModel {
    fn card(&self) -> RewardCard {
        self.card.clone()
    }
    fn layout(&self, problem: &Problem, steps: &[&str]) -> Result<Vec<Piece>> {
        let found =
            self.library.ask(&self.card.name, "layout", json!({ "problem": problem, "steps": steps }))?;
        found.map_or_else(|| default::layout(problem, steps), Ok)
    }
    fn aggregate(&self, scores: &[f32]) -> Result<f32> {
        let found = self.library.ask(&self.card.name, "aggregate", json!({ "scores": scores }))?;
        found.map_or_else(|| default::aggregate(&self.card, scores), Ok)
    }
}
