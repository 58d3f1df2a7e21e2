//! Stages that make and rank paths: samples, step labels, scores, pairs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Policy, Stages, shown};
use crate::align::pairs::{self, PairPolicy, PairSettings};
use crate::config::{Method, RankBy};
use crate::iterate::POLICY;
use crate::iterate::likelihood;
use crate::model::{LoadOptions, Trainable};
use crate::record::{self, Pair, Sample, ScoredPath, StepLabels};
use crate::reward::{self, RewardNet};
use crate::run_dir::{Made, StageInputs};
use crate::sample::{self, Quota, SampleCounts, SampleInput, quota};
use crate::simulate::{self, LabelCounts, SimulateInput};
use crate::work::Target;
use crate::{AtPath, Result};

impl Stages<'_> {
    /// S_k: new paths of every question by this policy; what earlier iterations kept is not kept again.
    pub(in crate::iterate) fn sample(&mut self, iteration: u64, policy: &Policy) -> Result<()> {
        let config = self.config;
        let file = format!("iter-{iteration}/samples.jsonl");
        let settings = json!({ "sample": config.sample, "rule": config.rule, "seed": config.seed, "iteration": iteration });
        let inputs = self
            .sampled_so_far()?
            .with("policy", policy.hash.clone())
            .with("questions", self.data.questions_hash.clone());
        let (earlier, lanes) = (self.sampled.clone(), self.lanes());
        self.stage(&format!("iter-{iteration}/sample"), &settings, inputs, |shared, key| {
            let path = shared.path(&file);
            shared.make_parent(&path)?;
            let known = shared.samples(&earlier)?;
            let place = &shared.parts.place;
            let decoder = policy.decoder(shared.base.path(), place)?;
            let parameters = decoder.config().parameters();
            let engine = place.engine(&decoder, shared.base.path())?;
            let quotas = shared.quotas(iteration, &known);
            let problems = &shared.data.questions;
            let input = SampleInput {
                policy: &engine,
                verifier: shared.verifier,
                problems,
                quotas: &quotas,
                known: &known,
                iteration,
                seed: config.seed,
            };
            let progress = shared.progress(&format!("iter-{iteration}/sample"), problems.len(), "questions");
            let target = Target { file: &path, key, lanes };
            let units = sample::run(&input, &config.sample, target, shared.stop, &progress)?;
            progress.finish();
            let tokens: u64 = units.iter().map(|unit| unit.tokens).sum();
            let rows: Vec<Sample> = units.into_iter().flat_map(|unit| unit.rows).collect();
            record::write(&path, &rows)?;
            let figures = generated(&SampleCounts::of(&rows), tokens, parameters)?;
            Ok(Made { paths: vec![file.clone()], rows: rows.len() as u64, figures })
        })?;
        self.sampled.push(iteration);
        Ok(())
    }

    /// Step labels by rollouts from the steps of a subset of S_0 (Eq. 2-3).
    pub(in crate::iterate) fn simulate(&mut self, supervised: &Policy) -> Result<()> {
        let config = self.config;
        let file = "iter-0/labels.jsonl";
        if config.simulator != POLICY && self.simulator.is_none() {
            self.simulator = Some(super::Base::open(&config.simulator, config.seed)?);
        }
        let simulator =
            self.simulator.as_ref().map_or_else(|| supervised.hash.clone(), |base| base.hash.clone());
        let settings = json!({ "simulate": config.simulate, "rule": config.rule, "seed": config.seed });
        let inputs = StageInputs::default()
            .with("samples", self.run.hash("iter-0/samples.jsonl")?)
            .with("questions", self.data.questions_hash.clone())
            .with("simulator", simulator);
        let lanes = self.lanes();
        self.stage("iter-0/simulate", &settings, inputs, |shared, key| {
            let path = shared.path(file);
            let samples = shared.samples(&[0])?;
            let place = &shared.parts.place;
            let (decoder, folder) = match shared.simulator.as_ref() {
                Some(base) => (place.load(base.path())?, base.path()),
                None => (supervised.decoder(shared.base.path(), place)?, shared.base.path()),
            };
            let parameters = decoder.config().parameters();
            let engine = place.engine(&decoder, folder)?;
            let selection = simulate::select(&shared.data.questions, &samples, &config.simulate, config.seed);
            let progress = shared.progress("iter-0/simulate", selection.paths.len(), "paths");
            if selection.too_easy_to_guess > 0 {
                progress.tell(&format!(
                    "{} questions are left out: a blind guess is right more often than {} of the time",
                    selection.too_easy_to_guess, config.simulate.max_chance
                ));
            }
            let input = SimulateInput {
                simulator: &engine,
                name: shown(&config.simulator),
                verifier: shared.verifier,
                paths: &selection.paths,
                seed: config.seed,
            };
            let target = Target { file: &path, key, lanes };
            let units = simulate::run(&input, &config.simulate, target, shared.stop, &progress)?;
            progress.finish();
            let tokens: u64 = units.iter().map(|unit| unit.tokens).sum();
            let rows: Vec<StepLabels> = units.into_iter().flat_map(|unit| unit.rows).collect();
            record::write(&path, &rows)?;
            let mut figures = generated(&LabelCounts::of(&rows), tokens, parameters)?;
            figures.insert("too_easy_to_guess".into(), json!(selection.too_easy_to_guess));
            Ok(Made { paths: vec![file.to_owned()], rows: rows.len() as u64, figures })
        })?;
        Ok(())
    }

    /// Scores of every kept path so far (Eq. 5). Those of earlier iterations are not computed again: the reward model is
    /// the same.
    pub(in crate::iterate) fn score(&mut self, iteration: u64, supervised: &Policy) -> Result<()> {
        let config = self.config;
        let Some(trained) = self.run.finished("reward").filter(|done| !done.files.is_empty()) else {
            self.skip(&format!("iter-{iteration}/score"), "there is no reward model");
            return Ok(());
        };
        let file = format!("iter-{iteration}/scores.jsonl");
        let card = self.parts.reward.card();
        let settings = json!({ "card": card, "rank-by": config.rank_by, "iteration": iteration });
        let mut inputs = self.sampled_so_far()?.with("reward", super::reward::reward_hash(&trained)?);
        if config.rank_by == RankBy::PolicyLikelihood {
            inputs = inputs.with("policy", supervised.hash.clone());
        }
        let (earlier, before) = (self.sampled.clone(), format!("iter-{}/scores.jsonl", iteration - 1));
        self.stage(&format!("iter-{iteration}/score"), &settings, inputs, |shared, key| {
            let path = shared.path(&file);
            shared.make_parent(&path)?;
            let samples = shared.samples(&earlier)?;
            let net =
                RewardNet::load(&shared.path("reward"), &card, &shared.reward_options(Trainable::Frozen))?;
            let parameters = net.parameters();
            let scored_before: Vec<ScoredPath> = match config.rank_by == RankBy::Reward && iteration > 1 {
                true => record::read(&shared.path(&before))?,
                false => Vec::new(),
            };
            let known: BTreeSet<&str> = scored_before.iter().map(|row| row.sample.as_str()).collect();
            let new: Vec<Sample> =
                samples.iter().filter(|sample| !known.contains(sample.id.as_str())).cloned().collect();
            let input = reward::ScoreInput {
                net: &net.frozen()?,
                reward: &*shared.parts.reward,
                problems: &shared.data.questions,
                samples: &new,
            };
            let kept = new.iter().filter(|sample| sample.kept).count();
            let progress = shared.progress(&format!("iter-{iteration}/score"), kept, "paths");
            let target = Target { file: &path, key, lanes: 1 };
            let units = reward::score(&input, target, shared.stop, &progress)?;
            progress.finish();
            let mut rows = scored_before;
            rows.extend(units.into_iter().flat_map(|unit| unit.rows));
            if config.rank_by != RankBy::Reward {
                let scratch = tempfile::tempdir().at(std::env::temp_dir())?;
                let base = match config.rank_by {
                    RankBy::PolicyLikelihood => shared.whole_folder(supervised, scratch.path())?,
                    _ => shared.reward_base_folder(supervised, scratch.path())?,
                };
                let raw = RewardNet::init(&base, &card, &LoadOptions::default())?.frozen()?;
                rows =
                    likelihood::ranked(&raw, &*shared.parts.reward, &shared.data.questions, &samples, rows)?;
            }
            record::write(&path, &rows)?;
            let tokens: u64 = new.iter().filter(|sample| sample.kept).map(|sample| sample.tokens).sum();
            let figures = generated_as("tokens_scored", &Map::new(), tokens, parameters)?;
            Ok(Made { paths: vec![file.clone()], rows: rows.len() as u64, figures })
        })?;
        Ok(())
    }

    /// What the iteration learns from (Eq. 6): pairs, or chosen paths alone.
    pub(in crate::iterate) fn pairs(&mut self, iteration: u64) -> Result<()> {
        let config = self.config;
        let file = format!("iter-{iteration}/pairs.jsonl");
        let scores = format!("iter-{iteration}/scores.jsonl");
        let settings = json!({
            "pairs": config.pairs, "method": config.method, "seed": config.seed, "iteration": iteration,
        });
        let mut inputs = self.sampled_so_far()?;
        let scored =
            self.run.finished(&format!("iter-{iteration}/score")).is_some() && config.method.uses_reward();
        if scored {
            inputs = inputs.with("scores", self.run.hash(&scores)?);
        }
        let earlier = self.sampled.clone();
        self.stage(&format!("iter-{iteration}/pairs"), &settings, inputs, |shared, _| {
            let path = shared.path(&file);
            shared.make_parent(&path)?;
            let samples = shared.samples(&earlier)?;
            let scores: Vec<ScoredPath> =
                if scored { record::read(&shared.path(&scores))? } else { Vec::new() };
            let (seed, settings) = (config.seed, &config.pairs);
            let (rows, counts) = match config.method {
                Method::Sipf => {
                    let found = pairs::pairs(&samples, &scores, settings, seed, iteration);
                    (found.pairs, found.counts)
                }
                Method::Siof => {
                    let settings = PairSettings { policy: PairPolicy::Outcome, ..settings.clone() };
                    let found = pairs::pairs(&samples, &[], &settings, seed, iteration);
                    (found.pairs, found.counts)
                }
                Method::Rft | Method::Prft => {
                    let clean = config.method == Method::Prft;
                    let (paths, counts) =
                        pairs::right_paths(&samples, &scores, clean, settings, seed, iteration);
                    (paths.into_iter().map(alone).collect(), counts)
                }
            };
            record::write(&path, &rows)?;
            let mut figures = object(&counts)?;
            if !rows.is_empty() && config.method.uses_pairs() {
                let margin: f64 =
                    rows.iter().map(|pair| f64::from(pair.chosen_reward - pair.rejected_reward)).sum();
                figures.insert("mean_margin".into(), json!(margin / rows.len() as f64));
            }
            Ok(Made { paths: vec![file.clone()], rows: rows.len() as u64, figures })
        })?;
        Ok(())
    }

    /// The samples of all iterations so far, as inputs.
    fn sampled_so_far(&self) -> Result<StageInputs> {
        self.sampled.iter().try_fold(StageInputs::default(), |inputs, iteration| {
            let file = format!("iter-{iteration}/samples.jsonl");
            Ok(inputs.with(&file, self.run.hash(&file)?))
        })
    }
}

impl super::Shared<'_> {
    /// The samples of these iterations.
    fn samples(&self, iterations: &[u64]) -> Result<Vec<Sample>> {
        let mut all = Vec::new();
        for iteration in iterations {
            all.extend(record::read::<Sample>(&self.path(&format!("iter-{iteration}/samples.jsonl")))?);
        }
        Ok(all)
    }

    /// The first round's quotas are the settings'; later ones grow with what is there, or stay "all" where that was
    /// asked.
    fn quotas(&self, iteration: u64, known: &[Sample]) -> Vec<Quota> {
        let settings = &self.config.sample;
        let first = Quota::of(settings.positives, settings.negatives);
        let problems = &self.data.questions;
        if iteration == 0 || (settings.positives == 0 && settings.negatives == 0) {
            return vec![first; problems.len()];
        }
        let domain = self.parts.task.card().domain;
        let mut kept: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for sample in known.iter().filter(|sample| sample.kept) {
            let (right, wrong) = kept.entry(&sample.problem).or_default();
            *if sample.passed { right } else { wrong } += 1;
        }
        let of = |id: &str| kept.get(id).copied().unwrap_or_default();
        problems
            .iter()
            .map(|problem| {
                let (right, wrong) = of(&problem.id);
                quota::next(right, wrong, domain)
            })
            .collect()
    }

    fn make_parent(&self, path: &std::path::Path) -> Result<()> {
        let parent = path.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(parent).at(parent)
    }
}

/// A chosen path without another to hold against it.
fn alone(sample: &Sample) -> Pair {
    Pair {
        prompt: sample.prompt.clone(),
        chosen: sample.completion.clone(),
        problem: sample.problem.clone(),
        chosen_sample: sample.id.clone(),
        ..Pair::default()
    }
}

fn object(counts: &impl Serialize) -> Result<Map<String, Value>> {
    Ok(serde_json::to_value(counts)?.as_object().cloned().unwrap_or_default())
}

fn generated(counts: &impl Serialize, tokens: u64, parameters: usize) -> Result<Map<String, Value>> {
    generated_as("tokens_generated", counts, tokens, parameters)
}

/// Counts with their cost: two operations a weight and token.
fn generated_as(
    name: &str,
    counts: &impl Serialize,
    tokens: u64,
    parameters: usize,
) -> Result<Map<String, Value>> {
    let mut figures = object(counts)?;
    figures.remove("tokens");
    figures.insert(name.to_owned(), json!(tokens));
    figures.insert("flops".into(), json!(2.0 * parameters as f64 * tokens as f64));
    Ok(figures)
}
