//! A piece of an evaluation: ask, clean, judge, measure, reward.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sipf_plugin::{Problem, RewardModel, Role, Task, Verdict};

use super::answer::{Answer, Answers};
use super::{EvaluateSettings, Subject};
use crate::generate::{Completion, Finish, Request, Sampling, complete};
use crate::reward::{Layout, RewardNet};
use crate::stream::StreamName;
use crate::verify::Judged;
use crate::work::Unit;
use crate::{Error, Result};

/// Everything that the pieces share.
pub(super) struct Asking<'a> {
    subject: &'a Subject<'a>,
    task: &'a dyn Task,
    seed: u64,
    /// Worked examples, with what stands between them and the question.
    preface: Option<String>,
    greedy: Option<Arc<Sampling>>,
    sampled: Arc<Sampling>,
    samples: usize,
}

/// A completion on its way: whose it is, and its place among that problem's.
struct Asked {
    problem: usize,
    greedy: bool,
}

impl<'a> Asking<'a> {
    pub(super) fn new(subject: &'a Subject<'a>, settings: &EvaluateSettings, seed: u64) -> Result<Self> {
        let task = &**subject.verifier.task();
        Ok(Self {
            subject,
            task,
            seed,
            preface: settings.few_shot.then(|| preface(task)).transpose()?,
            greedy: settings.greedy.then(|| Arc::new(settings.sampling(0.0))),
            sampled: Arc::new(settings.sampling(settings.temperature)),
            samples: settings.samples,
        })
    }

    /// Answers to these problems, in their order.
    pub(super) fn piece(&self, problems: &[Problem], stop: &AtomicBool) -> Result<Vec<Unit<Answers>>> {
        let (mut found, asked, requests) = self.requests(problems);
        let (completions, _) = complete(self.subject.generator, requests, stop)?;
        let mut answers: Vec<Answer> = asked
            .iter()
            .zip(completions)
            .map(|(asked, completion)| self.answer(&problems[asked.problem], completion))
            .collect();
        self.judge(problems, &asked, &mut answers, stop)?;
        for (asked, answer) in asked.iter().zip(&mut answers) {
            self.measure(&problems[asked.problem], answer);
        }
        if let Some((net, reward)) = self.subject.reward {
            self.reward(net, reward, problems, &asked, &mut answers)?;
        }
        for (asked, answer) in asked.into_iter().zip(answers) {
            let of = &mut found[asked.problem];
            if asked.greedy { of.greedy = Some(answer) } else { of.samples.push(answer) }
        }
        Ok(found.into_iter().map(unit).collect())
    }

    /// What to ask. A problem whose prompt cannot be written has failed answers from the start.
    fn requests(&self, problems: &[Problem]) -> (Vec<Answers>, Vec<Asked>, Vec<Request>) {
        let (mut found, mut asked, mut requests) = (Vec::new(), Vec::new(), Vec::new());
        for (place, problem) in problems.iter().enumerate() {
            let prompt = self.prompt(problem).and_then(|text| {
                let ids = self.subject.generator.tokenizer().encode(&text, true)?;
                Ok((text, ids))
            });
            let (text, ids) = match prompt {
                Ok(prompt) => prompt,
                Err(error) => {
                    let mut failed = Answers::of(problem, String::new());
                    failed.greedy = self.greedy.as_ref().map(|_| Answer::failed(&error));
                    failed.samples = (0..self.samples).map(|_| Answer::failed(&error)).collect();
                    found.push(failed);
                    continue;
                }
            };
            found.push(Answers::of(problem, text));
            let mut put = |greedy: bool, index: u64, sampling: &Arc<Sampling>| {
                let name = StreamName {
                    seed: self.seed,
                    stage: "evaluate",
                    problem: &problem.id,
                    index,
                    ..StreamName::default()
                };
                let (prompt, sampling) = (ids.clone(), sampling.clone());
                requests.push(Request { tag: 0, stream: name.key(), prompt, sampling });
                asked.push(Asked { problem: place, greedy });
            };
            if let Some(greedy) = &self.greedy {
                put(true, 0, greedy);
            }
            (0..self.samples as u64).for_each(|index| put(false, index, &self.sampled));
        }
        (found, asked, requests)
    }

    fn prompt(&self, problem: &Problem) -> Result<String> {
        Ok(match &self.preface {
            None => self.task.prompt(problem, Role::Policy)?,
            Some(preface) => format!("{preface}{}", self.task.prompt(problem, Role::FewShot)?),
        })
    }

    fn answer(&self, problem: &Problem, completion: Completion) -> Answer {
        let (tokens, cut) = (completion.ids.len() as u64, completion.finish == Finish::Length);
        match self.task.clean(problem, &completion.text) {
            Ok(text) => Answer { completion: text, tokens, cut, ..Answer::default() },
            Err(error) => Answer { completion: completion.text, tokens, cut, ..Answer::failed(error) },
        }
    }

    fn judge(
        &self,
        problems: &[Problem],
        asked: &[Asked],
        answers: &mut [Answer],
        stop: &AtomicBool,
    ) -> Result<()> {
        let places: Vec<usize> = (0..answers.len()).filter(|place| answers[*place].error.is_none()).collect();
        let items: Vec<(&Problem, &str)> = places
            .iter()
            .map(|place| (&problems[asked[*place].problem], answers[*place].completion.as_str()))
            .collect();
        let verdicts: Vec<Mutex<Option<Result<Judged>>>> = items.iter().map(|_| Mutex::new(None)).collect();
        self.subject.verifier.judge(&items, stop, &|item, judged| {
            *verdicts[item].lock().unwrap_or_else(PoisonError::into_inner) = Some(judged);
        });
        for (place, verdict) in places.into_iter().zip(verdicts) {
            match verdict.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(Ok(judged)) => answers[place].judged = judged,
                Some(Err(error)) => answers[place].error = Some(error.to_string()),
                None if stop.load(Ordering::Relaxed) => return Err(Error::Interrupted),
                None => answers[place].error = Some("no verdict came back".into()),
            }
        }
        Ok(())
    }

    fn measure(&self, problem: &Problem, answer: &mut Answer) {
        if answer.error.is_some() {
            return;
        }
        let verdict = Verdict {
            passed: answer.judged.passed,
            by_rule: answer.judged.by_rule.clone(),
            answer: answer.judged.answer.clone(),
            message: answer.judged.message.clone(),
        };
        match self.task.measure(problem, &answer.completion, &verdict) {
            Ok(measures) => {
                answer.measures = measures.into_iter().map(|m| (m.name, m.value as f32)).collect();
            }
            Err(error) => {
                // Wrong as a whole, so that every number has the same denominator.
                answer.judged.passed = false;
                answer.error = Some(format!("measure: {error}"));
            }
        }
    }

    /// Rewards of the sampled answers. A path that the reward model cannot read has reward 0.
    fn reward(
        &self,
        net: &RewardNet,
        reward: &dyn RewardModel,
        problems: &[Problem],
        asked: &[Asked],
        answers: &mut [Answer],
    ) -> Result<()> {
        let (mut places, mut layouts) = (Vec::new(), Vec::new());
        for (place, asked) in asked.iter().enumerate().filter(|(_, asked)| !asked.greedy) {
            let (problem, answer) = (&problems[asked.problem], &mut answers[place]);
            answer.reward = Some(0.0);
            match self.layout(net, reward, problem, &answer.completion) {
                Ok((layout, steps)) => {
                    places.push((place, steps));
                    layouts.push(layout);
                }
                Err(error) => answer.unscored = Some(error.to_string()),
            }
        }
        for ((place, steps), mut scores) in places.into_iter().zip(net.score_layouts(&layouts)?) {
            // Steps beyond the reward model's context score 0.
            scores.resize(steps, 0.0);
            match reward.aggregate(&scores) {
                Ok(value) => answers[place].reward = Some(value),
                Err(error) => answers[place].unscored = Some(error.to_string()),
            }
        }
        Ok(())
    }

    /// What the reward model reads of a completion, and how many steps it has.
    fn layout(
        &self,
        net: &RewardNet,
        reward: &dyn RewardModel,
        problem: &Problem,
        completion: &str,
    ) -> Result<(Layout, usize)> {
        let steps = self.task.steps(problem, completion)?;
        let texts: Option<Vec<&str>> =
            steps.iter().map(|step| completion.get(step.start..step.end)).collect();
        let texts = texts.ok_or_else(|| Error::unusable("a step lies outside the completion"))?;
        let mut layout = net.layout(reward, problem, &texts)?;
        layout.truncate(net.context());
        Ok((layout, texts.len()))
    }
}

fn unit(answers: Answers) -> Unit<Answers> {
    let tokens = answers.all().map(|answer| answer.tokens).sum();
    Unit { rows: vec![answers], tokens }
}

/// The worked examples of a task, each `prompt + solution`, joined by the card's separator.
fn preface(task: &dyn Task) -> Result<String> {
    let (card, shots) = (task.card(), task.shots()?);
    if shots.is_empty() {
        return Err(Error::unusable(format!("task {} has no worked examples for --few-shot", card.name)));
    }
    let mut text = String::new();
    for shot in &shots {
        text.push_str(&task.prompt(shot, Role::FewShot)?);
        text.push_str(shot.solution.as_deref().unwrap_or_default());
        text.push_str(&card.shot_separator);
    }
    Ok(text)
}
