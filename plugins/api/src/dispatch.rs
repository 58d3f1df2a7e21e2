//! From a request's bytes to a trait method and back to a reply's bytes. No raw memory here.

use serde::Serialize;
use serde_json::Value;

use crate::call::{Call, Request, Status};
use crate::error::{Error, Result};
use crate::manifest::{API, Manifest};
use crate::reward::RewardModel;
use crate::task::Task;

/// What one library exports.
pub struct Plugin {
    name: &'static str,
    version: &'static str,
    tasks: Vec<Box<dyn Task>>,
    rewards: Vec<Box<dyn RewardModel>>,
}

/// A reply: how the call ended, and its bytes.
pub type Reply = (Status, Vec<u8>);

impl Plugin {
    /// A library without exports; `export_plugin!` fills in the package's name and version.
    pub fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version, tasks: Vec::new(), rewards: Vec::new() }
    }

    /// Adds a task.
    #[must_use]
    pub fn task(mut self, task: impl Task) -> Self {
        self.tasks.push(Box::new(task));
        self
    }

    /// Adds a reward model.
    #[must_use]
    pub fn reward(mut self, reward: impl RewardModel) -> Self {
        self.rewards.push(Box::new(reward));
        self
    }

    /// What the library exports.
    pub fn manifest(&self) -> Manifest {
        Manifest {
            api: API,
            features: Vec::new(),
            name: self.name.into(),
            version: self.version.into(),
            tasks: self.tasks.iter().map(|task| task.card()).collect(),
            rewards: self.rewards.iter().map(|reward| reward.card()).collect(),
            panic: if cfg!(panic = "unwind") { "unwind" } else { "abort" }.into(),
            built_with: format!("{} {}", std::env::consts::ARCH, std::env::consts::OS),
        }
    }

    /// Answers one request.
    pub fn dispatch(&self, request: &[u8]) -> Reply {
        let request: Request = match serde_json::from_slice(request) {
            Ok(request) => request,
            Err(error) => return unreadable(request, &error),
        };
        let answer = match (&request.call, self.find(&request.plugin)) {
            (Call::Manifest, _) => json(&self.manifest()),
            (call, Some(Export::Task(task))) => of_task(task, call),
            (call, Some(Export::Reward(reward))) => of_reward(reward, call),
            (_, None) => return (Status::Unknown, request.plugin.into_bytes()),
        };
        match answer {
            Some(Ok(bytes)) => (Status::Ok, bytes),
            Some(Err(error)) => (Status::Failed, error.to_string().into_bytes()),
            None => (Status::Unknown, b"this export does not answer that call".to_vec()),
        }
    }

    fn find(&self, name: &str) -> Option<Export<'_>> {
        let task = self.tasks.iter().find(|task| task.card().name == name);
        let reward = || self.rewards.iter().find(|reward| reward.card().name == name);
        task.map(|task| Export::Task(&**task)).or_else(|| reward().map(|reward| Export::Reward(&**reward)))
    }
}

enum Export<'a> {
    Task(&'a dyn Task),
    Reward(&'a dyn RewardModel),
}

type Answer = Option<Result<Vec<u8>>>;

fn json(value: &impl Serialize) -> Answer {
    Some(serde_json::to_vec(value).map_err(Error::from))
}

fn reply<T: Serialize>(result: Result<T>) -> Answer {
    match result {
        Ok(value) => json(&value),
        Err(error) => Some(Err(error)),
    }
}

fn of_task(task: &dyn Task, call: &Call) -> Answer {
    match call {
        Call::Source { split } => reply(task.source(*split)),
        Call::Generate { split, index } => reply(task.generate(*split, *index)),
        Call::Problems { row, split } => reply(task.problems(row, *split)),
        Call::Prompt { problem, role } => reply(task.prompt(problem, *role)),
        Call::Verify { problem, completion } => reply(task.verify(problem, completion)),
        Call::Judge { problem, outcome } => reply(task.judge(problem, outcome)),
        Call::Clean { problem, raw } => reply(task.clean(problem, raw)),
        Call::Steps { problem, completion } => reply(task.steps(problem, completion)),
        Call::Answer { completion } => reply(task.answer(completion)),
        Call::Signature { problem, completion } => reply(task.signature(problem, completion)),
        Call::Shots => reply(task.shots()),
        Call::Measure { problem, completion, verdict } => {
            reply(task.measure(problem, completion, verdict).and_then(|measures| {
                match measures.iter().find(|measure| !measure.value.is_finite()) {
                    Some(measure) => Err(Error::new(format!("measure {:?} is not finite", measure.name))),
                    None => Ok(measures),
                }
            }))
        }
        Call::StepTruth { problem, completion } => reply(task.step_truth(problem, completion)),
        Call::Fixtures => reply(task.fixtures()),
        Call::Manifest | Call::Layout { .. } | Call::Aggregate { .. } => None,
    }
}

fn of_reward(reward: &dyn RewardModel, call: &Call) -> Answer {
    match call {
        Call::Layout { problem, steps } => {
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            reply(reward.layout(problem, &steps))
        }
        Call::Aggregate { scores } => {
            reply(reward.aggregate(scores).and_then(|value| match value.is_finite() {
                true => Ok(value),
                false => Err(Error::new("the reward is not finite, which JSON cannot carry")),
            }))
        }
        _ => None,
    }
}

/// A request that did not parse: an unknown call is the host being newer, anything else is malformed.
fn unreadable(request: &[u8], error: &serde_json::Error) -> Reply {
    let call = serde_json::from_slice::<Value>(request)
        .ok()
        .and_then(|value| value.get("call").and_then(Value::as_str).map(str::to_owned));
    match call {
        Some(call) if !Call::NAMES.contains(&call.as_str()) => (Status::Unknown, call.into_bytes()),
        _ => (Status::Malformed, error.to_string().into_bytes()),
    }
}
