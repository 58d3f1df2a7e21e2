//! Whether this machine can do a run: models that would have to be fetched, memory, and a smaller command that works.

use std::path::Path;

use anyhow::bail;
use sipf_core::hub::{Hub, Kind};
use sipf_core::iterate::{POLICY, TINY, Weights};
use sipf_core::model::{self, tiny::Tiny};
use sipf_core::{dataset, machine};
use sipf_plugin::{Domain, Split};

use crate::command::plan;
use crate::exit::tell;
use crate::settings::{Resolved, RunFlags};

/// A model of a run: what it is for, and what is known of it.
struct Needed<'a> {
    role: &'static str,
    name: &'a str,
    here: bool,
    parameters: Option<f64>,
}

/// Weights of a model: from its configuration where it is on this machine, otherwise from its name (`-7b-`, `2b`).
fn look<'a>(role: &'static str, name: &'a str) -> Needed<'a> {
    let folder = Path::new(name);
    if let Some(member) = Tiny::named(name) {
        let parameters = member.config().ok().map(|config| config.parameters() as f64);
        return Needed { role, name, here: true, parameters };
    }
    let cached = match folder.is_dir() {
        true => Some(folder.to_path_buf()),
        false => {
            let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
            Hub::from_environment().cached_model(repository, revision)
        }
    };
    let config = cached.as_deref().and_then(|folder| model::load::read_config(folder).ok());
    let parameters = config.map(|config| config.parameters() as f64).or_else(|| by_name(name));
    Needed { role, name, here: cached.is_some() || name == POLICY, parameters }
}

/// `gemma-2b` has about two billion weights.
fn by_name(name: &str) -> Option<f64> {
    let last = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    last.split(['-', '_'])
        .filter_map(|part| part.strip_suffix('b')?.parse::<f64>().ok())
        .next_back()
        .map(|billions| billions * 1e9)
        .or_else(|| last.contains("tinyllama").then_some(1.1e9))
        .or_else(|| last.contains("phi-1").then_some(1.4e9))
}

fn needed(resolved: &Resolved) -> Vec<Needed<'_>> {
    let config = &resolved.config;
    let mut all = vec![look("policy", &config.model)];
    if config.method.uses_reward() && config.iterations > 0 {
        all.push(look("simulator", &config.simulator));
        all.push(look("reward base", &config.reward_base));
    }
    all
}

/// The sizes of a run's models, for the plan. Unknown ones count as the policy's.
pub(crate) fn weights(resolved: &Resolved, bytes: f64) -> Weights {
    let all = needed(resolved);
    let policy = all[0].parameters.unwrap_or(0.0);
    let of = |role: &str| {
        all.iter()
            .find(|model| model.role == role)
            .filter(|model| model.name != POLICY)
            .and_then(|model| model.parameters)
            .unwrap_or(policy)
    };
    let config = &resolved.config;
    // An adapter has about 2 r (in + out) weights a layer; a share of the model that grows with r.
    let trained = match config.lora.r {
        0 => policy,
        r => policy * (r as f64 / 1024.0).min(1.0),
    };
    Weights { policy, simulator: of("simulator"), reward_base: of("reward base"), bytes, trained }
}

fn gigabytes(bytes: f64) -> String {
    format!("{:.1} GB", bytes / 1e9)
}

/// Says what has to be fetched, or ends the command with what is missing and a smaller one that works.
pub(crate) fn check(flags: &RunFlags, resolved: &Resolved, run_dir: Option<&Path>) -> anyhow::Result<()> {
    let all = needed(resolved);
    let (device, _) = machine::device(&flags.device)?;
    let bytes = if device.is_cpu() { 4.0 } else { 2.0 };
    let missing: Vec<&Needed<'_>> = all.iter().filter(|model| !model.here).collect();
    let mut lines = Vec::new();
    let mut unreachable = None;
    for model in &missing {
        let (repository, revision) = model.name.split_once('@').unwrap_or((model.name, "main"));
        let size = match unreachable.is_some() || !repository.contains('/') {
            true => None,
            false => match Hub::from_environment().listing(Kind::Model, repository, revision) {
                Ok(listing) => {
                    let weights = listing.files.iter().filter(|(file, _)| file.ends_with(".safetensors"));
                    Some(weights.filter_map(|(_, bytes)| *bytes).sum::<u64>() as f64)
                }
                Err(error) => {
                    unreachable = Some(error.to_string());
                    None
                }
            },
        };
        let size = match (size, model.parameters) {
            (Some(bytes), _) => format!("{} to download", gigabytes(bytes)),
            (None, Some(parameters)) => {
                format!("about {} by its name, in 16 bits", gigabytes(2.0 * parameters))
            }
            (None, None) => "of unknown size".to_owned(),
        };
        lines.push(format!("  {:<12} {}: {size}", model.role, model.name));
        if !repository.contains('/') {
            unreachable.get_or_insert(format!("{} is no folder, bundled name or Hub id", model.name));
        }
    }
    if missing.is_empty() && !is_large(&all) {
        return Ok(());
    }
    let estimate = plan::estimate(flags, resolved, false).ok();
    if let Some(estimate) = &estimate {
        lines.push(format!(
            "  memory       about {} at the worst moment{}",
            gigabytes(estimate.memory_bytes),
            machine::memory_bytes()
                .filter(|_| device.is_cpu())
                .map_or(String::new(), |there| format!("; this machine has {}", gigabytes(there as f64)))
        ));
        lines
            .push(format!("  time         about {} on this machine", plan::duration(estimate.total.seconds)));
    }
    let short_of_memory = device.is_cpu()
        && estimate
            .as_ref()
            .zip(machine::memory_bytes())
            .is_some_and(|(estimate, there)| estimate.memory_bytes > there as f64);
    let told = lines.join("\n");
    match (unreachable, short_of_memory) {
        (Some(why), _) => bail!(
            "models that are not on this machine cannot be fetched: {why}\n{told}\na smaller run that works here:\n  {}",
            smaller(flags, resolved, run_dir)
        ),
        (None, true) => bail!(
            "this machine has not enough memory for the run ({} bytes a weight on this device)\n{told}\na smaller run that works here:\n  {}",
            bytes,
            smaller(flags, resolved, run_dir)
        ),
        (None, false) => {
            tell(&format!("this run needs\n{told}"));
            Ok(())
        }
    }
}

fn is_large(models: &[Needed<'_>]) -> bool {
    models.iter().any(|model| model.parameters.is_some_and(|parameters| parameters > 3e8))
}

/// The same run with the bundled models, on a few questions; on a generated task of the same kind where the data is
/// not to be had either.
fn smaller(flags: &RunFlags, resolved: &Resolved, run_dir: Option<&Path>) -> String {
    let options = dataset::DataOptions { data: flags.data.clone(), limit: Some(1), skip_bad_rows: true };
    let card = resolved.task.card();
    let there = [Split::Train, Split::Test]
        .iter()
        .all(|split| dataset::load(&*resolved.task, *split, &options).is_ok());
    let task = match (there, card.domain) {
        (true, _) => flags.task.clone().unwrap_or(card.name),
        (false, Domain::Code) => "pyfunc".to_owned(),
        (false, _) => "arith".to_owned(),
    };
    let mut command = format!("sipf run --task {task}");
    for plugin in &flags.plugins.plugins {
        command.push_str(&format!(" --plugin {plugin}"));
    }
    command.push_str(&format!(" --model {TINY} --reward-base {TINY} --simulator {TINY} --limit 40"));
    if let Some(data) = flags.data.as_ref().filter(|_| there) {
        command.push_str(&format!(" --data {}", quoted(data)));
    }
    if let Some(run_dir) = run_dir {
        command.push_str(&format!(" --run-dir {}", quoted(run_dir)));
    }
    command
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@:,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_off_names() {
        for (name, billions) in [
            ("google/gemma-2b", 2.0),
            ("deepseek-ai/deepseek-coder-6.7b-instruct", 6.7),
            ("deepseek-ai/deepseek-math-7b-rl", 7.0),
            ("TinyLlama/TinyLlama_v1.1", 1.1),
        ] {
            assert_eq!(by_name(name), Some(billions * 1e9), "{name}");
        }
        assert_eq!(by_name("somebody/model"), None);
    }
}
