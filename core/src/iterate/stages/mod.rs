//! The stages of a run: what each takes and leaves in the run folder.
//!
//! Each method asks the folder whether its stage is finished ([`RunDir::stage`]) and otherwise does the work with the
//! stage's own module. Settings that a stage does not read are not part of its key.

mod exam;
mod paths;
mod policy;
mod reward;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value, json};

use super::data::Data;
use super::models::{Base, Policy};
use super::{Parts, clear};
use crate::config::RunConfig;
use crate::model::save::{copy_tokenizer, write_text};
use crate::progress::Progress;
use crate::run_dir::{Finished, Made, RunDir, StageInputs};
use crate::verify::Verifier;
use crate::{AtPath, Result, work};

/// An open run and what its stages share.
pub(super) struct Stages<'a> {
    run: &'a mut RunDir,
    config: &'a RunConfig,
    parts: &'a Parts,
    stop: &'a AtomicBool,
    data: Data,
    base: Base,
    verifier: Verifier,
    /// Who continues steps and what the reward model is trained from, opened when they are needed.
    simulator: Option<Base>,
    reward_base: Option<Base>,
    /// Iterations whose samples exist.
    sampled: Vec<u64>,
}

impl<'a> Stages<'a> {
    /// Loads the data and finds the models.
    pub(super) fn open(
        run: &'a mut RunDir,
        config: &'a RunConfig,
        parts: &'a Parts,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let data = Data::load(config, parts)?;
        let base = Base::open(&config.model, config.seed)?.adapted(&config.adapter)?;
        let rule = Some(config.rule.as_str()).filter(|rule| !rule.is_empty());
        let verifier = Verifier::new(parts.task.clone(), parts.execute.clone(), rule)?;
        run.forget_inputs();
        run.input("plugins", &parts.plugin_hash);
        run.input("demonstrations", &data.demonstrations_hash);
        run.input("questions", &data.questions_hash);
        run.input(&format!("model {}", shown(&config.model)), &base.policy().hash);
        for (task, exam) in std::iter::once(&parts.task).chain(&parts.transfer).zip(&data.exams) {
            run.input(&format!("test problems of {}", task.card().name), &exam.hash);
        }
        let (simulator, reward_base, sampled) = (None, None, Vec::new());
        Ok(Self { run, config, parts, stop, data, base, verifier, simulator, reward_base, sampled })
    }

    /// Pieces in flight: programs are judged while the next piece generates. On a GPU one, so that batches are the same
    /// every time.
    fn lanes(&self) -> usize {
        match (self.parts.execute.is_some(), self.parts.place.device.is_cpu()) {
            (true, true) => 2,
            _ => 1,
        }
    }

    /// Runs a stage of this run, or takes it from the run that `--reuse` names.
    fn stage(
        &mut self,
        name: &str,
        settings: &Value,
        inputs: StageInputs,
        make: impl FnOnce(&mut Shared<'_>, &str) -> Result<Made>,
    ) -> Result<Finished> {
        let inputs = inputs.with("plugins", self.parts.plugin_hash.clone());
        if let Some(other) = &self.parts.reuse {
            self.run.reuse(other, name, settings, &inputs)?;
        }
        let mut shared = Shared {
            config: self.config,
            parts: self.parts,
            stop: self.stop,
            data: &self.data,
            base: &self.base,
            verifier: &self.verifier,
            simulator: &mut self.simulator,
            reward_base: &mut self.reward_base,
            folder: self.run.folder().to_path_buf(),
        };
        self.run.stage(name, settings, inputs, |_, key| make(&mut shared, key))
    }

    /// Says in the log and in the manifest that a stage has nothing to do, and why.
    fn skip(&mut self, stage: &str, why: &str) {
        Progress::new(stage, None, "").note(&format!("skipped: {why}"));
        self.run.skip(stage, why);
    }

    /// One hash over what a finished training left: the model, not its log.
    fn policy_of(&self, done: &Finished, folder: &str) -> Policy {
        let model: Map<String, Value> = done
            .files
            .iter()
            .filter(|(file, _)| !file.ends_with("metrics.jsonl") && !file.ends_with("training.json"))
            .map(|(file, hash)| (file.trim_start_matches(folder).to_owned(), json!(hash)))
            .collect();
        let hash = crate::run_dir::hash_rows(&[model]).unwrap_or_default();
        Policy { folder: Some(self.run.path(folder)), hash }
    }
}

/// What a stage's work may look at.
struct Shared<'a> {
    config: &'a RunConfig,
    parts: &'a Parts,
    stop: &'a AtomicBool,
    data: &'a Data,
    base: &'a Base,
    verifier: &'a Verifier,
    simulator: &'a mut Option<Base>,
    reward_base: &'a mut Option<Base>,
    folder: PathBuf,
}

impl Shared<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A folder that a training may go on in: emptied first, unless it was begun with this key.
    fn training_folder(&self, name: &str, key: &str) -> Result<PathBuf> {
        let folder = self.path(name);
        let marker = work::journal_path(&folder);
        let begun = std::fs::read_to_string(&marker).is_ok_and(|text| text.trim() == key);
        if !begun {
            clear(&folder)?;
            if let Some(parent) = folder.parent() {
                std::fs::create_dir_all(parent).at(parent)?;
            }
            write_text(&marker, &format!("{key}\n"))?;
        }
        Ok(folder)
    }

    fn progress(&self, stage: &str, total: usize, unit: &'static str) -> Progress {
        Progress::new(stage, Some(total as u64), unit)
    }

    /// A whole model folder of a policy: its own where it is one, otherwise written to `scratch`.
    fn whole_folder(&self, policy: &Policy, scratch: &Path) -> Result<PathBuf> {
        match &policy.folder {
            None => Ok(self.base.path().to_path_buf()),
            Some(folder) if !policy.is_adapter() => Ok(folder.clone()),
            Some(_) => {
                policy.decoder(self.base.path(), &self.parts.place)?.save(scratch)?;
                copy_tokenizer(self.base.path(), scratch)?;
                Ok(scratch.to_path_buf())
            }
        }
    }
}

/// What stands for a model in the manifest: a Hub id or a bundled name as it is, of a path the last part.
fn shown(model: &str) -> &str {
    match Path::new(model).is_dir() {
        true => Path::new(model).file_name().and_then(|name| name.to_str()).unwrap_or("model"),
        false => model,
    }
}
