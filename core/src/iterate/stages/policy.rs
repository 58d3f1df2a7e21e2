//! Stages that train the policy: supervised fine-tuning, alignment, the control.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Policy, Shared, Stages};
use crate::Result;
use crate::align::{BadRows, Orpo, OrpoObjective, PreferenceRow, SftObjective, SftRow};
use crate::config::AlignFrom;
use crate::model::save::copy_tokenizer;
use crate::model::{Decoder, Tokenizer, Trainable};
use crate::record::{self, Pair};
use crate::run_dir::{Made, StageInputs};
use crate::train::{self, Objective, TrainSettings};

impl Stages<'_> {
    /// M0: the base model after supervised training on the task's demonstrations.
    pub(in crate::iterate) fn sft(&mut self) -> Result<Policy> {
        if !self.config.sft.enabled {
            return Ok(self.base.policy());
        }
        let settings = json!({ "sft": self.config.sft, "lora": self.config.lora, "seed": self.config.seed });
        let inputs = StageInputs::default()
            .with("model", self.base.policy().hash)
            .with("demonstrations", self.data.demonstrations_hash.clone());
        let done = self.stage("sft", &settings, inputs, |shared, key| {
            let out = shared.training_folder("sft", key)?;
            let start = shared.base.policy();
            let decoder = shared.open_for_training(&start)?;
            let section = &shared.config.sft;
            let train = TrainSettings { seed: shared.config.seed, ..section.train.clone() };
            shared.supervise(decoder, &shared.data.demonstrations, section.max_length, &train, &out, "sft")
        })?;
        Ok(self.policy_of(&done, "sft"))
    }

    /// M_k: alignment on the iteration's pairs. `None`: there was nothing to learn from.
    pub(in crate::iterate) fn align(
        &mut self,
        iteration: u64,
        supervised: &Policy,
        previous: &Policy,
    ) -> Result<Option<Policy>> {
        let pairs = format!("iter-{iteration}/pairs.jsonl");
        let name = format!("iter-{iteration}/policy");
        let pairs_hash = self.run.hash(&pairs)?;
        if let Some(none) =
            self.run.finished(&format!("iter-{iteration}/pairs")).filter(|done| done.rows == 0)
        {
            self.skip(&name, &nothing_to_learn_from(&none.figures));
            return Ok(None);
        }
        let start = match self.config.align_from {
            AlignFrom::Base if self.config.model != super::super::TINY => self.base.policy(),
            AlignFrom::Base | AlignFrom::Sft => supervised.clone(),
            AlignFrom::Previous => previous.clone(),
        };
        let config = self.config;
        let settings = json!({
            "align": config.align, "lora": config.lora, "method": config.method, "seed": config.seed,
            "iteration": iteration,
        });
        let inputs = StageInputs::default().with("pairs", pairs_hash).with("start", start.hash.clone());
        let done = self.stage(&name.clone(), &settings, inputs, |shared, key| {
            let out = shared.training_folder(&name, key)?;
            let rows: Vec<Pair> = record::read(&shared.path(&pairs))?;
            let decoder = shared.open_for_training(&start)?;
            let section = &shared.config.align;
            let train = TrainSettings { seed: shared.config.seed + iteration, ..section.train.clone() };
            if shared.config.method.uses_pairs() {
                shared.prefer(decoder, &rows, &train, &out, &name)
            } else {
                let rows: Vec<SftRow> = rows.iter().map(chosen_row).collect();
                shared.supervise(decoder, &rows, section.max_length, &train, &out, &name)
            }
        })?;
        Ok(Some(self.policy_of(&done, &name)))
    }

    /// Continued supervised training for as many steps as the first alignment took; `None` where that took none.
    pub(in crate::iterate) fn control(&mut self, supervised: &Policy) -> Result<Option<Policy>> {
        let steps = self
            .run
            .finished("iter-1/policy")
            .and_then(|done| done.figures.get("steps")?.as_u64())
            .unwrap_or(0) as usize;
        let why = match (steps, self.data.demonstrations.is_empty()) {
            (0, _) => "the first iteration was not aligned, so there are no steps to match",
            (_, true) => "the task has no demonstrations to train on",
            _ => "",
        };
        if !why.is_empty() {
            self.skip("control", why);
            return Ok(None);
        }
        let config = self.config;
        let settings =
            json!({ "align": config.align, "lora": config.lora, "seed": config.seed, "steps": steps });
        let inputs = StageInputs::default()
            .with("start", supervised.hash.clone())
            .with("demonstrations", self.data.demonstrations_hash.clone());
        let done = self.stage("control", &settings, inputs, |shared, key| {
            // Its evaluation will lie in the same folder.
            let out = shared.training_folder("control/policy", key)?;
            let decoder = shared.open_for_training(supervised)?;
            let section = &shared.config.align;
            let train =
                TrainSettings { max_steps: steps, seed: shared.config.seed + 1, ..section.train.clone() };
            let rows = &shared.data.demonstrations;
            shared.supervise(decoder, rows, section.max_length, &train, &out, "control/policy")
        })?;
        Ok(Some(self.policy_of(&done, "control/policy")))
    }
}

/// Why there are no pairs, by the counts of the stage that looked for them.
fn nothing_to_learn_from(counts: &Map<String, Value>) -> String {
    let count = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or(0);
    let reasons: Vec<String> = [
        ("no_right", "without a right path"),
        ("none_clean", "without a clean right path"),
        ("none_to_reject", "without a path to reject"),
        ("within_margin", "with no two paths the margin apart"),
    ]
    .into_iter()
    .filter(|(name, _)| count(name) > 0)
    .map(|(name, what)| format!("{} {what}", count(name)))
    .collect();
    let unscored = match count("unscored") {
        0 => String::new(),
        paths => format!("; {paths} paths have no score"),
    };
    let questions = count("questions");
    let gap = if reasons.is_empty() { "" } else { ": " };
    format!(
        "nothing to learn from in the paths of {questions} questions{gap}{}{unscored}; the weights stay as they are \
         (more samples or a smaller margin may help)",
        reasons.join(", ")
    )
}

fn chosen_row(pair: &Pair) -> SftRow {
    SftRow {
        prompt: pair.prompt.clone(),
        completion: pair.chosen.clone(),
        place: pair.chosen_sample.clone(),
        ..SftRow::default()
    }
}

impl Shared<'_> {
    fn open_for_training(&self, start: &Policy) -> Result<Decoder> {
        let trainable = match self.config.lora.config() {
            Some(lora) => Trainable::Lora(lora),
            None => Trainable::Full,
        };
        start.trainable(self.base.path(), &self.parts.place, trainable, self.config.seed)
    }

    fn supervise(
        &self,
        decoder: Decoder,
        rows: &[SftRow],
        max_length: usize,
        train: &TrainSettings,
        out: &Path,
        name: &str,
    ) -> Result<Made> {
        let tokenizer = Tokenizer::load(self.base.path())?;
        let mut bad = BadRows::skip();
        let parameters = decoder.config().parameters();
        let objective = SftObjective::sifted(decoder, &tokenizer, rows, max_length, &mut bad)?
            .over(super::shown(&self.config.model));
        self.train(&objective, train, out, name, parameters, bad.found())
    }

    fn prefer(
        &self,
        decoder: Decoder,
        rows: &[Pair],
        train: &TrainSettings,
        out: &Path,
        name: &str,
    ) -> Result<Made> {
        let tokenizer = Tokenizer::load(self.base.path())?;
        let rows: Vec<PreferenceRow> = rows
            .iter()
            .map(|pair| PreferenceRow {
                prompt: pair.prompt.clone(),
                chosen: pair.chosen.clone(),
                rejected: pair.rejected.clone(),
                place: format!("{} over {}", pair.chosen_sample, pair.rejected_sample),
                ..PreferenceRow::default()
            })
            .collect();
        let section = &self.config.align;
        let loss = Orpo { beta: section.beta, nll_scope: section.nll_scope };
        let mut bad = BadRows::skip();
        let parameters = decoder.config().parameters();
        let objective =
            OrpoObjective::sifted(decoder, &tokenizer, &rows, loss, section.max_length, &mut bad)?
                .over(super::shown(&self.config.model));
        self.train(&objective, train, out, name, parameters, bad.found())
    }

    fn train(
        &self,
        objective: &dyn Objective,
        train: &TrainSettings,
        out: &Path,
        name: &str,
        parameters: usize,
        bad: &[String],
    ) -> Result<Made> {
        let steps = train.steps(objective.rows());
        let progress = self.progress(name, steps, "steps");
        if let Some(first) = bad.first() {
            progress.note(&format!("{} rows cannot be learned from, the first: {first}", bad.len()));
        }
        let report = train::train(objective, None, train, out, self.stop, &progress)?;
        progress.finish();
        copy_tokenizer(self.base.path(), out)?;
        let figures: Map<String, Value> = [
            ("steps", json!(report.steps)),
            ("rows", json!(report.rows)),
            ("bad_rows", json!(bad.len())),
            ("tokens_trained", json!(report.tokens)),
            // Forward and backward: six operations a weight and token.
            ("flops", json!(6.0 * parameters as f64 * report.tokens as f64)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        Ok(Made { paths: vec![name.to_owned()], rows: report.rows as u64, figures })
    }
}
