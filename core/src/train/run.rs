//! The one training loop: accumulate, clip, step, log; it goes on where it was stopped.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::checkpoint::{self, State};
use super::optimizer::{self, AdamW};
use super::order::Order;
use super::{Metrics, Objective, TrainSettings};
use crate::model::{Pass, remat};
use crate::progress::Progress;
use crate::stream::StreamName;
use crate::{AtPath, Error, Result};

/// Written last, so that its presence means "finished".
const REPORT: &str = "training.json";
const METRICS: &str = "metrics.jsonl";

/// What a finished training says about itself; `training.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Optimizer steps.
    pub steps: usize,
    /// Rows.
    pub rows: usize,
    /// Tokens of all forward passes.
    pub tokens: u64,
    /// Mean loss over all steps.
    pub loss: f64,
    /// Loss of the last step.
    pub final_loss: f64,
    /// The last evaluation, where there were rows for it.
    #[serde(skip_serializing_if = "Map::is_empty", default)]
    pub eval: Map<String, Value>,
    /// How it was trained.
    pub settings: TrainSettings,
    /// Of loss, rows and the weights at the start.
    pub fingerprint: String,
}

/// Trains `objective` and writes the model, `metrics.jsonl` and `training.json` to `out`.
///
/// A folder that holds a finished training of the same settings and rows is left as it is; one with a checkpoint is
/// gone on with, to the same bytes as without the interruption.
///
/// # Errors
/// When a loss is not a number (names the rows), a trained tensor gets no gradient, the folder cannot be written or
/// belongs to another training, or `stop` became true ([`Error::Interrupted`], after a checkpoint).
pub fn train(
    objective: &dyn Objective,
    eval: Option<&dyn Objective>,
    settings: &TrainSettings,
    out: &Path,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<TrainReport> {
    settings.check()?;
    std::fs::create_dir_all(out).at(out)?;
    let fingerprint = objective.fingerprint().finish();
    if let Some(report) = finished(out, settings, &fingerprint)? {
        progress.note("finished before; nothing to do");
        return Ok(report);
    }
    let mut trainer = Trainer::start(objective, settings, fingerprint, out)?;
    progress.advance_to(trainer.state.step as u64);
    while trainer.state.step < trainer.steps {
        if stop.load(Ordering::Relaxed) {
            trainer.save()?;
            return Err(Error::Interrupted);
        }
        trainer.step(eval)?;
        progress.add(1);
        let due = settings.save_steps > 0 && trainer.state.step % settings.save_steps == 0;
        if due && trainer.state.step < trainer.steps {
            trainer.save()?;
        }
    }
    trainer.finish(eval)
}

/// Loss and metrics over all rows, without a training step.
///
/// # Errors
/// When the model or the device fails.
pub fn evaluate(objective: &dyn Objective, batch: usize) -> Result<Map<String, Value>> {
    let rows: Vec<usize> = (0..objective.rows()).collect();
    let (mut sum, mut weight, mut metrics) = (0.0, 0.0, Metrics::default());
    for chunk in rows.chunks(batch.max(1)) {
        let chunk_weight = objective.weight(chunk);
        if chunk_weight == 0.0 {
            continue;
        }
        let partial = objective.loss(chunk, &Pass::default())?;
        sum += scalar(&partial.sum)?;
        weight += chunk_weight;
        metrics.merge(&partial.metrics);
    }
    if weight == 0.0 {
        return Err(Error::unusable("no row has anything that a loss could be computed on"));
    }
    let mut figures = Map::new();
    figures.insert("rows".into(), json!(rows.len()));
    figures.insert("loss".into(), json!(sum / weight));
    figures.extend(metrics.means().map(|(name, mean)| (name.to_owned(), json!(mean))));
    Ok(figures)
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_dtype(DType::F32)?.to_scalar::<f32>()?))
}

fn finished(out: &Path, settings: &TrainSettings, fingerprint: &str) -> Result<Option<TrainReport>> {
    let path = out.join(REPORT);
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).at(&path)?;
    let report: TrainReport =
        serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
    match report.settings == *settings && report.fingerprint == fingerprint {
        true => Ok(Some(report)),
        false => Err(other_training(&path)),
    }
}

fn other_training(path: &Path) -> Error {
    Error::file(
        path,
        "belongs to a training with another model, rows or settings; name another --out or remove the folder",
    )
}

struct Trainer<'a> {
    objective: &'a dyn Objective,
    settings: &'a TrainSettings,
    out: &'a Path,
    vars: Vec<(String, Var)>,
    adam: AdamW,
    order: Order,
    steps: usize,
    state: State,
    metrics: File,
    reach_checked: bool,
}

impl<'a> Trainer<'a> {
    fn start(
        objective: &'a dyn Objective,
        settings: &'a TrainSettings,
        fingerprint: String,
        out: &'a Path,
    ) -> Result<Self> {
        let rows = objective.rows();
        let steps = settings.steps(rows);
        if rows == 0 || steps == 0 {
            return Err(Error::unusable(format!("{rows} rows and {steps} steps: nothing to train")));
        }
        let vars = objective.trainable();
        if vars.is_empty() {
            return Err(Error::unusable("nothing in the model is trainable"));
        }
        let mut adam = AdamW::new(vars.clone(), settings, |name| objective.learning_rate_scale(name))?;
        let mut state =
            State { step: 0, updates: 0, metrics_bytes: 0, settings: settings.clone(), rows, fingerprint };
        if let Some((kept, mut tensors)) = checkpoint::load(out)? {
            if kept.settings != *settings || kept.fingerprint != state.fingerprint {
                return Err(other_training(&out.join(checkpoint::FILE)));
            }
            adam.restore(&mut tensors)?;
            state = kept;
        }
        let path = out.join(METRICS);
        let mut metrics = File::options().create(true).truncate(false).write(true).open(&path).at(&path)?;
        metrics.set_len(state.metrics_bytes).at(&path)?;
        metrics.seek(SeekFrom::End(0)).at(&path)?;
        let order = Order::new(rows, settings.step_rows(), settings.shuffle.then_some(settings.seed));
        Ok(Self { objective, settings, out, vars, adam, order, steps, state, metrics, reach_checked: false })
    }

    /// One optimizer step.
    fn step(&mut self, eval: Option<&dyn Objective>) -> Result<()> {
        let rows = self.order.step(self.state.step);
        let weight = self.objective.weight(&rows);
        let rate = self.settings.learning_rate_at(self.state.step, self.steps);
        let (mut loss, mut norm, mut metrics) = (0.0, 0.0, Metrics::default());
        if weight > 0.0 {
            let grads = self.gradients(&rows, weight, &mut loss, &mut metrics)?;
            norm = optimizer::norm(&grads)?;
            if !norm.is_finite() {
                return Err(Error::unusable(format!("the gradient is {norm} at {}", self.place(&rows))));
            }
            let most = self.settings.max_grad_norm;
            // torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm.
            let shrink = if most > 0.0 { (most / (norm + 1e-6)).min(1.0) } else { 1.0 };
            self.state.updates += 1;
            self.adam.step(&grads, self.state.updates, rate, shrink)?;
        }
        self.state.step += 1;
        let mut line = Map::new();
        line.insert("step".into(), json!(self.state.step));
        line.insert("epoch".into(), json!(self.state.step as f64 / self.order.steps_per_epoch() as f64));
        line.insert("loss".into(), json!(loss));
        line.insert("learning_rate".into(), json!(rate));
        line.insert("grad_norm".into(), json!(norm));
        line.extend(metrics.means().map(|(name, mean)| (name.to_owned(), json!(mean))));
        let every = self.settings.logging_steps.max(1);
        if self.state.step % every == 0 || self.state.step == self.steps {
            self.log(line)?;
        }
        let every = self.settings.eval_steps;
        if every > 0 && self.state.step % every == 0 && self.state.step < self.steps {
            if let Some(eval) = eval {
                self.log_evaluation(eval)?;
            }
        }
        Ok(())
    }

    fn gradients(
        &mut self,
        rows: &[usize],
        weight: f64,
        loss: &mut f64,
        metrics: &mut Metrics,
    ) -> Result<Vec<Option<Tensor>>> {
        let mut sums: Vec<Option<Tensor>> = vec![None; self.vars.len()];
        for (micro, chunk) in rows.chunks(self.settings.batch_size).enumerate() {
            let number = self.state.step * self.settings.grad_accum + micro;
            let name = StreamName {
                seed: self.settings.seed,
                stage: "dropout",
                index: number as u64,
                ..StreamName::default()
            };
            let pass = Pass { dropout: Some(name.key()), checkpointing: self.settings.grad_checkpointing };
            if self.objective.weight(chunk) == 0.0 {
                continue;
            }
            let partial = self.objective.loss(chunk, &pass)?;
            let part = (partial.sum / weight)?;
            let value = scalar(&part)?;
            if !value.is_finite() {
                return Err(Error::unusable(format!("the loss is {value} at {}", self.place(chunk))));
            }
            *loss += value;
            metrics.merge(&partial.metrics);
            let mut grads = remat::gradients(&part)?;
            drop(part);
            for (sum, (_, var)) in sums.iter_mut().zip(&self.vars) {
                let grad = grads.remove(var.as_tensor());
                *sum = match (sum.take(), grad) {
                    (Some(sum), Some(grad)) => Some((sum + grad)?.detach()),
                    (sum, grad) => sum.or(grad),
                };
            }
        }
        if !self.reach_checked {
            let missed = sums.iter().zip(&self.vars).find(|(grad, _)| grad.is_none());
            if let Some((_, (name, _))) = missed {
                return Err(Error::unusable(format!("the gradient does not reach {name}")));
            }
            self.reach_checked = true;
        }
        Ok(sums)
    }

    /// Step and rows, for an error message.
    fn place(&self, rows: &[usize]) -> String {
        let names: Vec<String> = rows.iter().take(4).map(|row| self.objective.name(*row)).collect();
        let more = if rows.len() > 4 { format!(" and {} more", rows.len() - 4) } else { String::new() };
        format!("step {}: {}{more}", self.state.step + 1, names.join(", "))
    }

    fn log(&mut self, line: Map<String, Value>) -> Result<()> {
        let path = self.out.join(METRICS);
        let mut text = serde_json::to_string(&Value::Object(line))?;
        text.push('\n');
        self.metrics.write_all(text.as_bytes()).at(&path)?;
        self.state.metrics_bytes += text.len() as u64;
        Ok(())
    }

    fn log_evaluation(&mut self, eval: &dyn Objective) -> Result<Map<String, Value>> {
        let figures = evaluate(eval, self.settings.batch_size)?;
        let mut line = Map::new();
        line.insert("step".into(), json!(self.state.step));
        line.extend(
            figures
                .iter()
                .filter(|(name, _)| *name != "rows")
                .map(|(name, value)| (format!("eval_{name}"), value.clone())),
        );
        self.log(line)?;
        Ok(figures)
    }

    fn save(&mut self) -> Result<()> {
        let path = self.out.join(METRICS);
        self.metrics.sync_all().at(&path)?;
        checkpoint::save(self.out, &self.state, self.adam.state()?)
    }

    fn finish(mut self, eval: Option<&dyn Objective>) -> Result<TrainReport> {
        let eval = eval.map_or_else(|| Ok(Map::new()), |eval| self.log_evaluation(eval))?;
        self.objective.save(self.out)?;
        let path = self.out.join(METRICS);
        self.metrics.sync_all().at(&path)?;
        let (loss, final_loss) = losses(&path)?;
        let report = TrainReport {
            steps: self.steps,
            rows: self.objective.rows(),
            tokens: self.tokens(),
            loss,
            final_loss,
            eval,
            settings: self.settings.clone(),
            fingerprint: self.state.fingerprint.clone(),
        };
        write_whole(&self.out.join(REPORT), &serde_json::to_string_pretty(&report)?)?;
        let checkpoint = self.out.join(checkpoint::FILE);
        if checkpoint.is_file() {
            std::fs::remove_file(&checkpoint).at(&checkpoint)?;
        }
        Ok(report)
    }

    fn tokens(&mut self) -> u64 {
        let steps = self.steps;
        let count = |trainer: &mut Self, step| -> u64 {
            trainer.order.step(step).iter().map(|row| trainer.objective.tokens(*row) as u64).sum()
        };
        (0..steps).map(|step| count(self, step)).sum()
    }
}

/// Mean and last of the logged training losses.
fn losses(path: &Path) -> Result<(f64, f64)> {
    let text = std::fs::read_to_string(path).at(path)?;
    let losses: Vec<f64> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("loss")?.as_f64())
        .collect();
    let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    Ok((mean, losses.last().copied().unwrap_or(0.0)))
}

fn write_whole(path: &Path, text: &str) -> Result<()> {
    let fresh: PathBuf = path.with_extension("new");
    std::fs::write(&fresh, format!("{text}\n")).at(&fresh)?;
    std::fs::rename(&fresh, path).at(path)
}
