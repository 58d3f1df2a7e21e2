//! The same rows give the same JSON, byte for byte, through every transport and from every compiler.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use sipf_plugin::conformance::{fixture_problems, fixture_split, transcript};
use sipf_plugin::{Problem, RewardModel, Task};

use super::{native, native_by_other_compiler, opened, wasm};

/// Everything a task says about its fixture rows.
fn told_by_task(task: &dyn Task) -> Vec<String> {
    let split = fixture_split(task).unwrap();
    task.fixtures().unwrap().iter().take(3).map(|row| transcript(task, row, split).unwrap()).collect()
}

/// Everything a reward model says about one path.
fn told_by_reward(reward: &dyn RewardModel) -> Value {
    let problem = Problem::new("sums/0", "What is 1 + 1?").extra(json!({ "asked": "Q: 1 + 1?\nA:\n" }));
    let plain = Problem::new("sums/1", "What is „2“ + 2?\n");
    let steps = ["1 + 1 = 2", "é\u{0}\"\\"];
    let layouts = [&problem, &plain].map(|problem| reward.layout(problem, &steps).unwrap());
    let rewards = [&[0.25_f32, 0.75][..], &[0.1], &[]].map(|scores| reward.aggregate(scores).unwrap());
    json!({ "card": reward.card(), "layouts": layouts, "rewards": rewards })
}

fn says_the_same_as_linked(plugin: &Path) {
    let library = opened(plugin);
    let (tasks, rewards) = (sipf_tasks::all(), sipf_reward_models::all());
    assert_eq!(library.manifest().tasks.len(), tasks.len());
    assert_eq!(library.manifest().rewards.len(), rewards.len());
    for linked in tasks {
        let name = linked.card().name;
        let foreign = library.task(&name).unwrap();
        assert_eq!(told_by_task(&*foreign), told_by_task(&*linked), "{name} from {}", plugin.display());
    }
    for linked in rewards {
        let name = linked.card().name;
        let foreign = library.reward(&name).unwrap();
        assert_eq!(
            told_by_reward(&*foreign).to_string(),
            told_by_reward(&*linked).to_string(),
            "{name} from {}",
            plugin.display()
        );
    }
}

#[test]
fn a_native_library_says_what_the_linked_task_says() {
    says_the_same_as_linked(&native("built_in"));
}

#[test]
fn a_library_of_another_compiler_says_what_the_linked_task_says() {
    if let Some(plugin) = native_by_other_compiler("built_in") {
        says_the_same_as_linked(&plugin);
    }
}

#[test]
fn a_wasm_module_says_what_the_linked_task_says() {
    if let Some(plugin) = wasm("built_in") {
        says_the_same_as_linked(&plugin);
    }
}

#[test]
fn eight_threads_get_the_answers_of_one() {
    let plugins = [Some(native("every_call")), wasm("every_call")];
    for plugin in plugins.into_iter().flatten() {
        let task: Arc<dyn Task> = opened(&plugin).task("every-call").unwrap();
        let problem = fixture_problems(&*task).unwrap().remove(0);
        let ask = |number: usize| {
            let completion = format!("one\ntwo {number}\n#### {number}");
            format!("{:?} {:?}", task.verify(&problem, &completion), task.steps(&problem, &completion))
        };
        let alone: Vec<String> = (0..40).map(ask).collect();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!((0..40).map(ask).collect::<Vec<_>>(), alone));
            }
        });
    }
}
