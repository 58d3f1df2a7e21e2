//! What a run will cost before it starts: rows, tokens, floating-point operations, disk, memory, time.
//!
//! Token counts come from the task's own problems; how many attempts and rollouts a model will need is not known
//! beforehand, so the plan takes the most that the settings allow for attempts and, for rollouts, the most too. Time is
//! operations over this machine's measured rate and a share of it that such work reaches.

use serde::Serialize;
use sipf_plugin::{Problem, Role, Task};

use crate::Result;
use crate::config::RunConfig;

/// Share of the matrix product's rate that training reaches (docs/benchmarks.md: small models are bound by memory and
/// single operations).
const TRAINING_SHARE: f64 = 0.25;
/// Share that generation reaches.
const GENERATION_SHARE: f64 = 0.12;
/// Characters of a token, where no tokenizer is at hand.
const CHARACTERS: f64 = 3.5;
/// Problems looked at for lengths.
const LOOKED_AT: usize = 64;
/// Questions counted on where the data set is not at hand.
const QUESTIONS: f64 = 2000.0;
/// Tokens of a prompt, of a solution, and steps, where the data set is not at hand.
const LENGTHS: Lengths = Lengths { prompt: 150.0, solution: 150.0, steps: 5.0 };

/// Weights of the models of a run.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Weights {
    /// The policy's.
    pub policy: f64,
    /// The simulator's.
    pub simulator: f64,
    /// The reward base's.
    pub reward_base: f64,
    /// Bytes of one weight on this device.
    pub bytes: f64,
    /// The policy's weights that are trained.
    pub trained: f64,
}

/// One stage's cost.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PlannedStage {
    /// Its name in the run folder.
    pub name: String,
    /// What it works on: questions, paths, pairs, problems.
    pub rows: f64,
    /// Samples or rollouts drawn at most.
    pub completions: f64,
    /// Tokens through a model.
    pub tokens: f64,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes left in the run folder.
    pub disk_bytes: f64,
    /// Seconds on this machine.
    pub seconds: f64,
}

/// The cost of a whole run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct WorkPlan {
    /// In order.
    pub stages: Vec<PlannedStage>,
    /// All together.
    pub total: PlannedStage,
    /// Bytes of memory at the worst moment: weights, gradients, moments, keys and values.
    pub memory_bytes: f64,
    /// FLOP/s of this machine's matrix product, measured.
    pub flops_per_second: f64,
}

/// Mean tokens of a prompt and of a solution, and steps of a solution.
struct Lengths {
    prompt: f64,
    solution: f64,
    steps: f64,
}

fn lengths(task: &dyn Task, problems: &[Problem]) -> Result<Lengths> {
    let (mut prompt, mut solution, mut steps, mut count) = (0.0, 0.0, 0.0, 0.0);
    for problem in problems.iter().take(LOOKED_AT) {
        let Some(text) = problem.demonstration_or_solution() else { continue };
        prompt += task.prompt(problem, Role::Policy)?.chars().count() as f64 / CHARACTERS;
        solution += text.chars().count() as f64 / CHARACTERS;
        let spans = task.steps(problem, text)?;
        let chunks: std::collections::BTreeSet<u32> = spans.iter().map(|step| step.chunk).collect();
        steps += chunks.len() as f64;
        count += 1.0;
    }
    if count == 0.0 {
        return Ok(LENGTHS);
    }
    Ok(Lengths { prompt: prompt / count, solution: solution / count, steps: (steps / count).max(1.0) })
}

/// Plans a run over these train problems (none: the data set is not at hand, and 2,000 problems of middling length are
/// counted on); `test` problems are asked by every evaluation of the run's own task.
///
/// # Errors
/// When the task cannot write a prompt or find steps.
pub fn plan(
    config: &RunConfig,
    task: &dyn Task,
    train: &[Problem],
    test: usize,
    transfer: usize,
    weights: Weights,
    flops_per_second: f64,
) -> Result<WorkPlan> {
    let lengths = lengths(task, train)?;
    let path = lengths.prompt + lengths.solution;
    let all = if train.is_empty() { QUESTIONS } else { train.len() as f64 };
    let or_all = |count: usize| if count > 0 { count as f64 } else { all };
    let (questions, demonstrations) = (or_all(config.limit), or_all(config.sft.rows));
    let mut made = WorkPlan { flops_per_second, ..WorkPlan::default() };
    let model_bytes = weights.trained.max(1.0) * weights.bytes;
    let mut put = |name: &str, rows: f64, completions: f64, tokens: f64, work: f64, share: f64, disk: f64| {
        let flops = work * tokens;
        made.stages.push(PlannedStage {
            name: name.to_owned(),
            rows,
            completions,
            tokens,
            flops,
            disk_bytes: disk,
            seconds: flops / (flops_per_second * share),
        });
    };
    let train_work = 4.0 * weights.policy + 2.0 * weights.trained;
    if config.sft.enabled {
        let steps = config.sft.train.steps(demonstrations as usize) as f64;
        let tokens = steps * config.sft.train.step_rows() as f64 * path;
        put("sft", demonstrations, 0.0, tokens, train_work, TRAINING_SHARE, model_bytes);
    }
    let samples =
        config.evaluate.settings.samples as f64 + f64::from(u8::from(config.evaluate.settings.greedy));
    let asked = (test + transfer) as f64;
    let evaluation = (asked * samples, asked * samples * lengths.solution);
    let row_bytes = 4.0 * path + 400.0;
    let attempts = questions * config.sample.max_attempts.max(config.sample.wave) as f64;
    let sampled = |put: &mut dyn FnMut(&str, f64, f64, f64, f64, f64, f64), name: &str| {
        let tokens = attempts * lengths.solution;
        put(name, questions, attempts, tokens, 2.0 * weights.policy, GENERATION_SHARE, attempts * row_bytes);
    };
    let evaluated = |put: &mut dyn FnMut(&str, f64, f64, f64, f64, f64, f64), name: &str| {
        let (completions, tokens) = evaluation;
        put(
            name,
            asked,
            completions,
            tokens,
            2.0 * weights.policy,
            GENERATION_SHARE,
            completions * row_bytes,
        );
    };
    if config.iterations > 0 {
        sampled(&mut put, "iter-0/sample");
        if config.method.uses_reward() {
            let possible =
                if config.simulate.questions > 0 { config.simulate.questions as f64 } else { questions };
            let paths = possible.min(questions) * config.simulate.paths_per_question as f64;
            let rollouts = paths * lengths.steps * config.simulate.rollouts as f64;
            let tokens = rollouts * lengths.solution / 2.0;
            put(
                "iter-0/simulate",
                paths,
                rollouts,
                tokens,
                2.0 * weights.simulator,
                GENERATION_SHARE,
                paths * row_bytes,
            );
            let rows = paths + if config.simulate.gold { possible } else { 0.0 };
            let steps = config.reward.train_on(rows as usize).steps(rows as usize) as f64;
            let tokens = steps * config.reward.train.step_rows() as f64 * path;
            put(
                "reward",
                rows,
                0.0,
                tokens,
                6.0 * weights.reward_base,
                TRAINING_SHARE,
                weights.reward_base * weights.bytes,
            );
        }
    }
    evaluated(&mut put, "iter-0/evaluate");
    for iteration in 1..=config.iterations {
        if config.method.uses_reward() {
            put(
                &format!("iter-{iteration}/score"),
                attempts,
                0.0,
                attempts * path,
                2.0 * weights.reward_base,
                TRAINING_SHARE,
                attempts * 80.0,
            );
        }
        let most = if config.pairs.max_pairs > 0 { config.pairs.max_pairs as f64 } else { f64::INFINITY };
        let pairs = (questions * config.pairs.pairs_per_question as f64).min(most);
        let steps = config.align.train.steps(pairs as usize) as f64;
        let halves = if config.method.uses_pairs() { 2.0 } else { 1.0 };
        let tokens = steps * config.align.train.step_rows() as f64 * halves * path;
        put(&format!("iter-{iteration}/policy"), pairs, 0.0, tokens, train_work, TRAINING_SHARE, model_bytes);
        if iteration == 1 && config.control {
            put("control", demonstrations, 0.0, tokens / halves, train_work, TRAINING_SHARE, model_bytes);
            evaluated(&mut put, "control/evaluate");
        }
        evaluated(&mut put, &format!("iter-{iteration}/evaluate"));
        if iteration < config.iterations {
            sampled(&mut put, &format!("iter-{iteration}/sample"));
        }
    }
    let sum = |pick: &dyn Fn(&PlannedStage) -> f64| made.stages.iter().map(pick).sum::<f64>();
    made.total = PlannedStage {
        name: "total".into(),
        rows: questions,
        completions: sum(&|stage| stage.completions),
        tokens: sum(&|stage| stage.tokens),
        flops: sum(&|stage| stage.flops),
        disk_bytes: sum(&|stage| stage.disk_bytes),
        seconds: sum(&|stage| stage.seconds),
    };
    // Training: weights, and for those trained a gradient and two moments in f32; sampling: weights, keys and values.
    let training = weights.policy * weights.bytes + weights.trained * 12.0;
    let reward = weights.reward_base * (weights.bytes + if config.reward.lora_r > 0 { 0.5 } else { 12.0 });
    let simulating = weights.simulator * weights.bytes;
    made.memory_bytes = training.max(reward).max(simulating) + (1u64 << 30) as f64;
    Ok(made)
}
