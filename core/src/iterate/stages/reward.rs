//! Stage 3 of a run: the reward model is trained once, on the step labels of the supervised model's paths, and measured.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sipf_plugin::Problem;

use super::{Policy, Shared, Stages};
use crate::model::save::write_text;
use crate::model::{LoadOptions, LoraConfig, Trainable};
use crate::record::{self, Sample, StepLabels};
use crate::reward::quality::{self, ScoredTruth};
use crate::reward::{LabelRow, PrmObjective, RewardNet, RowLayout};
use crate::run_dir::{Finished, Made, StageInputs, hash_rows};
use crate::stream::StreamName;
use crate::train::{self, Objective, TrainSettings};
use crate::{AtPath, Result};

/// At most so many paths are measured on.
const MEASURED: usize = 2000;

/// The hash of a finished reward model.
pub(super) fn reward_hash(done: &Finished) -> Result<String> {
    let model: BTreeMap<&String, &String> = done
        .files
        .iter()
        .filter(|(file, _)| file.ends_with(".safetensors") || file.ends_with("reward.json"))
        .collect();
    hash_rows(&[model])
}

impl Stages<'_> {
    /// Trains the reward model on the labels, and measures it on questions that it did not see. Where there are no
    /// labels, or the reward model is trained already, nothing is trained.
    pub(in crate::iterate) fn reward(&mut self, supervised: &Policy) -> Result<()> {
        let config = self.config;
        let card = self.parts.reward.card();
        let base = self.reward_base_hash(supervised)?;
        let settings = json!({ "reward": config.reward, "card": card, "seed": config.seed });
        let inputs = StageInputs::default()
            .with("labels", self.run.hash("iter-0/labels.jsonl")?)
            .with("samples", self.run.hash("iter-0/samples.jsonl")?)
            .with("base", base);
        let done = self.stage("reward", &settings, inputs, |shared, key| {
            let labels: Vec<StepLabels> = record::read(&shared.path("iter-0/labels.jsonl"))?;
            let out = shared.training_folder("reward", key)?;
            std::fs::create_dir_all(&out).at(&out)?;
            let held_out = held_out(&labels, config.reward.held_out, config.seed);
            let rows: Vec<LabelRow> =
                labels.iter().filter(|row| !held_out.contains(&row.problem)).map(label_row).collect();
            let scratch = tempfile::tempdir().at(std::env::temp_dir())?;
            let folder = shared.reward_base_folder(supervised, scratch.path())?;
            let mut figures = Map::new();
            let mut paths = Vec::new();
            let measured = if card.pretrained {
                let net = RewardNet::load(&folder, &card, &shared.reward_options(Trainable::Frozen))?;
                net.save(&out)?;
                paths.push("reward".to_owned());
                Some(net)
            } else if rows.iter().any(|row| !row.labels.is_empty()) {
                let net = shared.train_reward(&folder, &rows, &out, &mut figures)?;
                paths.push("reward".to_owned());
                Some(net)
            } else {
                None
            };
            figures.insert("labelled_paths".into(), json!(rows.len()));
            if let Some(net) = measured {
                let found = shared.measure(&net.frozen()?, &labels, &held_out)?;
                write_text(&out.join("quality.json"), &format!("{found:#}\n"))?;
            }
            Ok(Made { paths, rows: rows.len() as u64, figures })
        })?;
        if done.files.is_empty() {
            let why = match self.run.finished("iter-0/simulate").is_some_and(|done| done.rows > 0) {
                true => "no labelled path is left to train on",
                false => "no path has labelled steps",
            };
            self.skip("reward", why);
        }
        Ok(())
    }

    /// Hash of what the reward model is trained from.
    fn reward_base_hash(&mut self, supervised: &Policy) -> Result<String> {
        if self.config.reward_base == crate::iterate::POLICY {
            return Ok(supervised.hash.clone());
        }
        if self.reward_base.is_none() {
            self.reward_base = Some(super::Base::open(&self.config.reward_base, self.config.seed)?);
        }
        Ok(self.reward_base.as_ref().map(|base| base.hash.clone()).unwrap_or_default())
    }
}

/// The questions that are kept from training: so many of a hundred, chosen by the seed.
fn held_out(labels: &[StepLabels], percent: usize, seed: u64) -> BTreeSet<String> {
    let problems: BTreeSet<&str> = labels.iter().map(|row| row.problem.as_str()).collect();
    let chosen = problems.into_iter().filter(|problem| {
        let name = StreamName { seed, stage: "held-out", problem, ..StreamName::default() };
        (name.key() % 100) < percent as u64
    });
    chosen.map(str::to_owned).collect()
}

fn label_row(row: &StepLabels) -> LabelRow {
    LabelRow {
        problem: row.problem.clone(),
        prompt: row.prompt.clone(),
        steps: row.completions.clone(),
        labels: row.labels.iter().map(|label| label.value()).collect(),
        question: row.question.clone(),
        place: row.sample.clone(),
    }
}

impl Shared<'_> {
    pub(super) fn reward_options(&self, trainable: Trainable) -> LoadOptions {
        let place = &self.parts.place;
        LoadOptions { device: place.device.clone(), dtype: place.dtype, trainable, seed: self.config.seed }
    }

    pub(super) fn reward_base_folder(
        &self,
        supervised: &Policy,
        scratch: &std::path::Path,
    ) -> Result<std::path::PathBuf> {
        match self.reward_base.as_ref() {
            Some(base) => Ok(base.path().to_path_buf()),
            None => self.whole_folder(supervised, scratch),
        }
    }

    fn train_reward(
        &self,
        base: &std::path::Path,
        rows: &[LabelRow],
        out: &std::path::Path,
        figures: &mut Map<String, Value>,
    ) -> Result<RewardNet> {
        let (section, card) = (&self.config.reward, self.parts.reward.card());
        let trainable = match section.lora_r {
            0 => Trainable::Full,
            r => Trainable::Lora(LoraConfig {
                r,
                lora_alpha: section.lora_alpha,
                lora_dropout: section.lora_dropout,
                target_modules: vec!["all-linear".into()],
                ..LoraConfig::default()
            }),
        };
        let mut net = RewardNet::init(base, &card, &self.reward_options(trainable))?;
        net.set_max_length(section.max_length);
        let (head, rate) = (section.head_learning_rate, section.train.learning_rate);
        let scale = if head > 0.0 && rate > 0.0 { head / rate } else { 1.0 };
        let parameters = net.parameters();
        let objective = PrmObjective::new(net, rows, &RowLayout::Pieces(&*self.parts.reward), false, scale)?;
        let settings = TrainSettings { seed: self.config.seed, ..section.train_on(objective.rows()) };
        let progress = self.progress("reward", settings.steps(objective.rows()), "steps");
        let lost = objective.lost();
        if lost.labels > 0 {
            progress.note(&format!(
                "{} labels of {} paths lie beyond reward.max-length {} and are not trained on",
                lost.labels, lost.rows, section.max_length
            ));
        }
        let report = train::train(&objective, None, &settings, out, self.stop, &progress)?;
        progress.finish();
        figures.insert("steps".into(), json!(report.steps));
        figures.extend(report.counts);
        figures.insert("tokens_trained".into(), json!(report.tokens));
        figures.insert("flops".into(), json!(6.0 * parameters as f64 * report.tokens as f64));
        // A training that was finished before left weights in the folder, and none in this process.
        RewardNet::load(out, &card, &self.reward_options(Trainable::Frozen))
    }

    /// How good the reward model is: against the simulated labels of the questions held out, and, where the task knows
    /// which steps are right, against that on paths whose questions it was not trained on.
    fn measure(&self, net: &RewardNet, labels: &[StepLabels], held_out: &BTreeSet<String>) -> Result<Value> {
        let questions = self.data.by_id();
        let held = labels.iter().filter(|row| held_out.contains(&row.problem)).filter_map(|row| {
            let problem = *questions.get(row.problem.as_str())?;
            let truths = row.labels.iter().map(|label| label.value() > 0.5).collect();
            Some(Known { problem, steps: row.completions.clone(), truths })
        });
        let by_labels = self.quality(net, &held.take(MEASURED).collect::<Vec<_>>())?;
        let by_truth = self.quality(net, &self.known_paths(labels, held_out)?)?;
        let (headline, truth) = match (&by_truth, &by_labels) {
            (Value::Null, labels) => (labels, "simulated labels of the questions held out"),
            (truth, _) => (truth, "the task's own step truth, on paths of questions not trained on"),
        };
        let mut found = headline.as_object().cloned().unwrap_or_default();
        found.insert("truth".into(), json!(truth));
        found.insert("held_out_questions".into(), json!(held_out.len()));
        found.insert("against_labels".into(), by_labels.clone());
        Ok(Value::Object(found))
    }

    /// Paths of questions that the reward model was not trained on, where the task knows which steps are right.
    fn known_paths(&self, labels: &[StepLabels], held_out: &BTreeSet<String>) -> Result<Vec<Known<'_>>> {
        let trained: BTreeSet<&str> =
            labels.iter().map(|row| row.problem.as_str()).filter(|p| !held_out.contains(*p)).collect();
        let questions = self.data.by_id();
        let samples: Vec<Sample> = record::read(&self.path("iter-0/samples.jsonl"))?;
        let mut known = Vec::new();
        for sample in
            samples.iter().filter(|sample| sample.kept && !trained.contains(sample.problem.as_str()))
        {
            let Some(problem) = questions.get(sample.problem.as_str()) else { continue };
            let Some(truths) = self.parts.task.step_truth(problem, &sample.completion)? else { break };
            let steps: Vec<String> = sample.step_texts()?.into_iter().map(str::to_owned).collect();
            if truths.len() == steps.len() && !steps.is_empty() {
                known.push(Known { problem, steps, truths });
            }
            if known.len() == MEASURED {
                break;
            }
        }
        Ok(known)
    }

    /// Figures over known paths; null where there are none.
    fn quality(&self, net: &RewardNet, paths: &[Known<'_>]) -> Result<Value> {
        let reward = &*self.parts.reward;
        let mut layouts = Vec::with_capacity(paths.len());
        for path in paths {
            let steps: Vec<&str> = path.steps.iter().map(String::as_str).collect();
            let mut layout = net.layout(reward, path.problem, &steps)?;
            layout.truncate(net.context());
            layouts.push(layout);
        }
        let mut scored = Vec::with_capacity(paths.len());
        for (path, mut scores) in paths.iter().zip(net.score_layouts(&layouts)?) {
            scores.resize(path.steps.len(), 0.0);
            scored.push(ScoredTruth {
                problem: path.problem.id.clone(),
                reward: reward.aggregate(&scores)?,
                scores,
                truths: path.truths.clone(),
            });
        }
        match scored.is_empty() {
            true => Ok(Value::Null),
            false => Ok(serde_json::to_value(quality::step_quality(&scored))?),
        }
    }
}

/// A path whose steps are known to be right or wrong.
struct Known<'a> {
    problem: &'a Problem,
    steps: Vec<String>,
    truths: Vec<bool>,
}
