//! The evaluations of a run: its own task, then every transfer task, by every state of the policy.

use serde_json::{Map, Value, json};

use super::{Policy, Stages};
use crate::evaluate::{self, Evaluation, Journal, Subject, results};
use crate::iterate::Headline;
use crate::model::LoadOptions;
use crate::reward::RewardNet;
use crate::run_dir::{Made, StageInputs};
use crate::verify::Verifier;
use crate::{AtPath, Error, Result};

impl Stages<'_> {
    /// Evaluates a policy into a folder of the run, and compares it with the evaluations that came before.
    pub(in crate::iterate) fn evaluate(&mut self, folder: &str, policy: &Policy) -> Result<Headline> {
        let name = format!("{folder}/evaluate");
        let config = self.config;
        let settings = json!({ "evaluate": config.evaluate, "rule": config.rule, "seed": config.seed });
        let mut inputs = StageInputs::default().with("policy", policy.hash.clone());
        for (number, exam) in self.data.exams.iter().enumerate() {
            inputs = inputs.with(&format!("problems {number}"), exam.hash.clone());
        }
        let earlier = self.earlier(folder);
        for (other, place) in &earlier {
            inputs = inputs.with(other, self.run.hash(&format!("{place}/eval.json"))?);
        }
        let reward = self.run.finished("reward").filter(|_| config.method.uses_reward());
        if let Some(reward) = &reward {
            inputs = inputs.with("reward", super::reward::reward_hash(reward)?);
        }
        let with_reward = reward.is_some_and(|reward| reward.rows > 0 || !reward.files.is_empty());
        self.stage(&name.clone(), &settings, inputs, |shared, key| {
            let out = shared.path(folder);
            std::fs::create_dir_all(&out).at(&out)?;
            let place = &shared.parts.place;
            let decoder = policy.decoder(shared.base.path(), place)?;
            let parameters = decoder.config().parameters();
            let engine = place.engine(&decoder, shared.base.path())?;
            let net = match with_reward {
                true => {
                    let card = shared.parts.reward.card();
                    Some(RewardNet::load(&shared.path("reward"), &card, &LoadOptions::default())?.frozen()?)
                }
                false => None,
            };
            let mut evaluations: Vec<Evaluation> = Vec::new();
            let tasks = std::iter::once(&shared.parts.task).chain(&shared.parts.transfer);
            for (number, (task, exam)) in tasks.zip(&shared.data.exams).enumerate() {
                let card = task.card();
                let own;
                let verifier = match number {
                    0 => shared.verifier,
                    _ => {
                        own = Verifier::new(task.clone(), shared.parts.execute.clone(), None)?;
                        &own
                    }
                };
                let mut settings = config.evaluate.settings.clone();
                if number > 0 {
                    (settings.max_tokens, settings.stop) = (card.max_tokens, card.stop.clone());
                }
                // The reward model speaks about the run's own task.
                let reward = net.as_ref().filter(|_| number == 0).map(|net| (net, &*shared.parts.reward));
                let subject = Subject { generator: &engine, verifier, problems: &exam.problems, reward };
                let file = results::samples_file(&out, &card.name);
                let lanes = if shared.parts.execute.is_some() && place.device.is_cpu() { 2 } else { 1 };
                let journal = Journal { file: &file, key, lanes };
                let progress =
                    shared.progress(&format!("{name} {}", card.name), exam.problems.len(), "problems");
                evaluations.push(evaluate::run(
                    &subject,
                    &settings,
                    config.seed,
                    &journal,
                    shared.stop,
                    &progress,
                )?);
                progress.finish();
            }
            let earlier: Vec<(String, Vec<Evaluation>)> = earlier
                .iter()
                .map(|(name, place)| Ok((name.clone(), results::read(&shared.path(place))?)))
                .collect::<Result<_>>()?;
            let against: Vec<(&str, &[Evaluation])> =
                earlier.iter().map(|(name, found)| (name.as_str(), found.as_slice())).collect();
            results::write(&out, &evaluations, &against, folder)?;
            let mut paths = vec![format!("{folder}/eval.json"), format!("{folder}/results.json")];
            paths.extend(evaluations.iter().map(|e| format!("{folder}/samples_{}.jsonl", e.task)));
            let tokens: u64 = evaluations.iter().map(tokens_of).sum();
            let rows = evaluations.iter().map(|e| e.answers.len() as u64).sum();
            let figures: Map<String, Value> = [
                ("tokens_generated".to_owned(), json!(tokens)),
                ("flops".to_owned(), json!(2.0 * parameters as f64 * tokens as f64)),
            ]
            .into_iter()
            .collect();
            Ok(Made { paths, rows, figures })
        })?;
        headline(&self.run.path(folder))
    }

    /// The evaluations that this one is held against: the supervised model's, the control's, the iteration's before.
    fn earlier(&self, folder: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut put = |name: &str, place: String| {
            if self.run.finished(&format!("{place}/evaluate")).is_some() {
                found.push((name.to_owned(), place));
            }
        };
        let iteration = folder.strip_prefix("iter-").and_then(|number| number.parse::<u64>().ok());
        if iteration != Some(0) {
            put("iter-0", "iter-0".into());
        }
        if let Some(iteration) = iteration.filter(|iteration| *iteration > 0) {
            if self.config.control {
                put("control", "control".into());
            }
            if iteration > 1 {
                put("previous", format!("iter-{}", iteration - 1));
            }
        }
        found
    }
}

fn tokens_of(evaluation: &Evaluation) -> u64 {
    let summary = evaluation.summary();
    summary.greedy_tokens + summary.sampled_tokens
}

fn headline(folder: &std::path::Path) -> Result<Headline> {
    let evaluations = results::read(folder)?;
    let first = evaluations.first().ok_or_else(|| Error::file(folder, "holds no evaluation"))?;
    let summary = first.summary();
    let mut measures = Map::new();
    for (name, measured) in &summary.measures {
        for (name, value) in [(name.clone(), measured.greedy), (format!("sampled_{name}"), measured.sampled)]
        {
            if let Some(value) = value {
                measures.insert(name, json!(value));
            }
        }
    }
    Ok(Headline {
        accuracy: summary.accuracy,
        sampled_accuracy: summary.sampled_accuracy,
        problems: summary.problems as u64,
        measures,
    })
}
