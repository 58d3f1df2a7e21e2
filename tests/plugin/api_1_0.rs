//! API 1.0, for ever: the committed transcript of a plugin that answers every call is replayed from both sides.
//!
//! `tests/golden/plugin_api/make.py` recorded it with a host of its own, through `ctypes`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use sipf_plugin::call::Call;
use sipf_plugin::{Manifest, Task};
use sipf_plugin_host::Library;
use sipf_plugin_host::native::Native;
use sipf_plugin_host::transport::{Kind, Transport};

use super::{native, native_by_other_compiler, wasm};

struct Exchange {
    request: Value,
    status: i32,
    /// Parsed where the status is 0, the text otherwise.
    reply: Value,
}

fn transcript() -> Vec<Exchange> {
    let lines = include_str!("../golden/plugin_api/1.0.jsonl").lines();
    lines
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let status = line["status"].as_i64().unwrap() as i32;
            Exchange { request: line["request"].take(), status, reply: line["reply"].take() }
        })
        .collect()
}

/// Whether everything of `old` is in `new`; later minor versions may add keys, and nothing else.
fn holds(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(key, value)| new.get(key).is_some_and(|found| holds(found, value)))
        }
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| holds(new, old))
        }
        _ => new == old,
    }
}

#[test]
fn the_transcript_has_every_call() {
    let asked: BTreeSet<String> = transcript()
        .iter()
        .filter_map(|exchange| Some(exchange.request.get("call")?.as_str()?.to_owned()))
        .collect();
    for call in Call::NAMES {
        assert!(asked.contains(call), "{call}");
    }
}

fn replays(transport: &dyn Transport) {
    for Exchange { request, status, reply } in transcript() {
        let (found_status, found) = transport.call(request.to_string().as_bytes()).unwrap();
        assert_eq!(found_status, status, "{request}");
        let call = request.get("call").and_then(Value::as_str).unwrap_or_default();
        match status {
            // What built it and which minor version it is may differ.
            0 if call == "manifest" => {
                let manifest: Manifest = serde_json::from_slice(&found).unwrap();
                let old: Manifest = serde_json::from_value(reply).unwrap();
                assert_eq!((manifest.tasks, manifest.rewards), (old.tasks, old.rewards));
                assert_eq!(manifest.api.major, old.api.major);
            }
            0 => {
                let found: Value = serde_json::from_slice(&found).unwrap();
                assert!(holds(&found, &reply), "{request}\n{found}\n{reply}");
            }
            // A parser's words are its own.
            4 => {}
            _ => assert_eq!(String::from_utf8(found).unwrap(), reply.as_str().unwrap(), "{request}"),
        }
    }
}

#[test]
fn a_plugin_of_this_crate_answers_an_old_host() {
    replays(&Native::load(&native("every_call")).unwrap());
    if let Some(plugin) = native_by_other_compiler("every_call") {
        replays(&Native::load(&plugin).unwrap());
    }
    if let Some(plugin) = wasm("every_call") {
        replays(&sipf_plugin_host::wasm::Wasm::load(&plugin).unwrap());
    }
}

/// A plugin of API 1.0 that only knows the transcript.
struct Recorded(Vec<Exchange>);

impl Transport for Recorded {
    fn call(&self, request: &[u8]) -> Result<(i32, Vec<u8>), String> {
        let asked: Value = serde_json::from_slice(request).map_err(|error| error.to_string())?;
        // A newer host may say more than the old plugin reads.
        let known = self.0.iter().find(|exchange| holds(&asked, &exchange.request));
        let Exchange { status, reply, .. } =
            known.ok_or_else(|| format!("not in the transcript: {asked}"))?;
        let bytes =
            if *status == 0 { reply.to_string() } else { reply.as_str().unwrap_or_default().to_owned() };
        Ok((*status, bytes.into_bytes()))
    }

    fn kind(&self) -> Kind {
        Kind::Native
    }
}

#[test]
fn this_host_understands_an_old_plugin() {
    let library = Library::new(Path::new("recorded.so"), Box::new(Recorded(transcript()))).unwrap();
    let task = library.task("every-call").unwrap();
    let mut asked = BTreeSet::new();
    for Exchange { request, status, reply } in transcript() {
        if request.get("plugin").and_then(Value::as_str) != Some("every-call") || status > 1 {
            continue;
        }
        let call = request["call"].as_str().unwrap();
        asked.insert(call.to_owned());
        match (ask(&*task, call, &request), status) {
            (Ok(found), 0) => assert!(holds(&found, &reply), "{request}\n{found}\n{reply}"),
            (Err(error), 1) => assert!(error.message().contains(reply.as_str().unwrap()), "{error}"),
            (found, _) => panic!("{request}: {found:?}"),
        }
    }
    assert_eq!(asked.len(), 14, "{asked:?}");
    let reward = library.reward("every-reward").unwrap();
    let asked = transcript().into_iter().filter(|e| e.request["plugin"] == "every-reward" && e.status == 0);
    let mut replies = 0;
    for Exchange { request, reply, .. } in asked {
        let found = match request["call"].as_str().unwrap() {
            "layout" => {
                let steps: Vec<String> = serde_json::from_value(request["steps"].clone()).unwrap();
                let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
                let problem = serde_json::from_value(request["problem"].clone()).unwrap();
                serde_json::to_value(reward.layout(&problem, &steps).unwrap()).unwrap()
            }
            _ => {
                let scores: Vec<f32> = serde_json::from_value(request["scores"].clone()).unwrap();
                serde_json::to_value(reward.aggregate(&scores).unwrap()).unwrap()
            }
        };
        assert!(holds(&found, &reply), "{request}\n{found}\n{reply}");
        replies += 1;
    }
    assert_eq!(replies, 2);
}

/// A recorded request as a call of the trait, its answer as JSON again.
fn ask(task: &dyn Task, call: &str, request: &Value) -> sipf_plugin::Result<Value> {
    fn key<T: serde::de::DeserializeOwned>(request: &Value, name: &str) -> T {
        serde_json::from_value(request[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
    fn json<T: serde::Serialize>(value: sipf_plugin::Result<T>) -> sipf_plugin::Result<Value> {
        Ok(serde_json::to_value(value?)?)
    }
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let problem = || key(request, "problem");
    match call {
        "source" => json(task.source(key(request, "split"))),
        "generate" => json(task.generate(key(request, "split"), key(request, "index"))),
        "problems" => json(task.problems(&key(request, "row"), key(request, "split"))),
        "prompt" => json(task.prompt(&problem(), key(request, "role"))),
        "verify" => json(task.verify(&problem(), text("completion"))),
        "judge" => json(task.judge(&problem(), &key(request, "outcome"))),
        "clean" => json(task.clean(&problem(), text("raw"))),
        "steps" => json(task.steps(&problem(), text("completion"))),
        "answer" => json(task.answer(text("completion"))),
        "signature" => json(task.signature(&problem(), text("completion"))),
        "shots" => json(task.shots()),
        "measure" => json(task.measure(&problem(), text("completion"), &key(request, "verdict"))),
        "step_truth" => json(task.step_truth(&problem(), text("completion"))),
        "fixtures" => json(task.fixtures()),
        other => panic!("{other}"),
    }
}
