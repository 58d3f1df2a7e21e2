//! The one training loop: accumulate, clip, step, log; it goes on where it was stopped.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::best::{self, Best};
use super::checkpoint::{self, State};
use super::log::Log;
use super::optimizer::{self, AdamW};
use super::order::Order;
use super::{Metrics, Objective, TrainSettings};
use crate::model::{Pass, remat, save};
use crate::progress::Progress;
use crate::stream::StreamName;
use crate::{AtPath, Error, Result};

/// Written last, so that its presence means "finished".
const REPORT: &str = "training.json";

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
    /// What the loss says of its rows; keys of their own.
    #[serde(flatten)]
    pub counts: Map<String, Value>,
    /// The last evaluation, where there were rows for it.
    #[serde(skip_serializing_if = "Map::is_empty", default)]
    pub eval: Map<String, Value>,
    /// Step of the weights that were kept, and the metric's value there, where the best were asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub best: Option<(usize, f64)>,
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
    save::sweep(out)?;
    let fingerprint = objective.fingerprint().finish();
    if let Some(report) = finished(out, settings, &fingerprint)? {
        progress.tell("finished before; nothing to do");
        // A process killed between its last two actions leaves them.
        best::forget(out)?;
        checkpoint::forget(out)?;
        return Ok(report);
    }
    let wants_eval = settings.keep_best || settings.early_stop > 0;
    if wants_eval && eval.is_none() {
        return Err(Error::unusable("keep-best and early-stop need rows to evaluate on (eval-data)"));
    }
    let mut trainer = Trainer::start(objective, settings, fingerprint, out)?;
    progress.advance_to(trainer.state.step as u64);
    trainer
        .advance(eval, stop, progress)
        .and_then(|()| trainer.finish(eval))
        .map_err(|error| trainer.ended(error))
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
    /// Step of the checkpoint on disk.
    kept: Option<usize>,
    log: Log,
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
        let mut state = State {
            step: 0,
            updates: 0,
            metrics_bytes: 0,
            best: Best::default(),
            stopped_early: false,
            settings: settings.clone(),
            rows,
            fingerprint,
        };
        let mut on_disk = None;
        if let Some((kept, mut tensors)) = checkpoint::load(out)? {
            if kept.settings != *settings || kept.fingerprint != state.fingerprint {
                return Err(other_training(&out.join(checkpoint::FILE)));
            }
            adam.restore(&mut tensors)?;
            on_disk = Some(kept.step);
            state = kept;
        }
        let log = Log::open(out, state.metrics_bytes, state.step)?;
        let order = Order::new(rows, settings.step_rows(), settings.shuffle.then_some(settings.seed));
        Ok(Self {
            objective,
            settings,
            out,
            vars,
            adam,
            order,
            steps,
            state,
            kept: on_disk,
            log,
            reach_checked: false,
        })
    }

    /// All steps that are left.
    fn advance(
        &mut self,
        eval: Option<&dyn Objective>,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<()> {
        while self.state.step < self.steps && !self.state.stopped_early {
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                return Err(Error::Interrupted);
            }
            let loss = self.step()?;
            progress.status(&format!("loss {loss:.4}"));
            progress.add(1);
            let every = self.settings.eval_steps;
            let due = every > 0 && self.state.step.is_multiple_of(every) && self.state.step < self.steps;
            if let Some(eval) = eval.filter(|_| due) {
                self.evaluate(eval)?;
            }
            let every = self.settings.save_steps;
            if every > 0 && self.state.step.is_multiple_of(every) && self.state.step < self.steps {
                self.save()?;
            }
        }
        Ok(())
    }

    /// Says what is left of a training that could not go on.
    fn ended(&self, error: Error) -> Error {
        if matches!(error, Error::Interrupted) {
            return error;
        }
        let kept = match self.kept {
            Some(step) => {
                format!("the checkpoint of step {step} is whole, the same command goes on from there")
            }
            None => "there is no checkpoint yet, the same command begins anew".to_owned(),
        };
        Error::EndedEarly {
            after: format!("training, step {}", self.state.step),
            kept,
            source: Box::new(error),
        }
    }

    /// One optimizer step.
    fn step(&mut self) -> Result<f64> {
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
        if self.state.step.is_multiple_of(every) || self.state.step == self.steps {
            self.log(&line)?;
        }
        Ok(loss)
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
                return Err(Error::unusable(format!(
                    "the loss is {value} at {}",
                    self.place(&self.culprits(chunk, &pass))
                )));
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

    /// The rows whose loss alone is no number; all, where none is.
    fn culprits(&self, rows: &[usize], pass: &Pass) -> Vec<usize> {
        let bad = |row: &usize| {
            let loss = self.objective.loss(&[*row], pass).and_then(|partial| scalar(&partial.sum));
            !loss.is_ok_and(f64::is_finite)
        };
        let found: Vec<usize> = rows.iter().copied().filter(bad).collect();
        if found.is_empty() { rows.to_vec() } else { found }
    }

    fn log(&mut self, line: &Map<String, Value>) -> Result<()> {
        self.log.write(self.state.step, line)?;
        self.state.metrics_bytes = self.log.bytes;
        Ok(())
    }

    /// Evaluates, keeps the best weights, and sees whether it is time to stop.
    fn evaluate(&mut self, eval: &dyn Objective) -> Result<Map<String, Value>> {
        let figures = evaluate(eval, self.settings.batch_size)?;
        let mut line = Map::new();
        line.insert("step".into(), json!(self.state.step));
        line.extend(
            figures
                .iter()
                .filter(|(name, _)| *name != "rows")
                .map(|(name, value)| (format!("eval_{name}"), value.clone())),
        );
        self.log(&line)?;
        let TrainSettings { keep_best, early_stop, best_metric, .. } = self.settings;
        if *keep_best || *early_stop > 0 {
            let is_best = self.state.best.take(self.state.step, best_metric, &figures)?;
            if is_best && *keep_best {
                best::keep(self.out, &self.vars)?;
            }
            self.state.stopped_early = *early_stop > 0 && self.state.best.worse >= *early_stop;
        }
        Ok(figures)
    }

    fn save(&mut self) -> Result<()> {
        self.log.sync()?;
        checkpoint::save(self.out, &self.state, self.adam.state()?)?;
        self.kept = Some(self.state.step);
        Ok(())
    }

    fn finish(&mut self, eval: Option<&dyn Objective>) -> Result<TrainReport> {
        let eval = match eval.filter(|_| !self.state.stopped_early) {
            Some(eval) => self.evaluate(eval)?,
            None => Map::new(),
        };
        if self.settings.keep_best && self.state.best.step != self.state.step {
            best::restore(self.out, &self.vars)?;
        }
        self.objective.save(self.out)?;
        self.log.sync()?;
        let (loss, final_loss) = self.log.losses()?;
        let report = TrainReport {
            steps: self.state.step,
            rows: self.objective.rows(),
            tokens: self.tokens(),
            loss,
            final_loss,
            counts: self.objective.counts(),
            eval,
            best: self.state.best.value.map(|value| (self.state.best.step, value)),
            settings: self.settings.clone(),
            fingerprint: self.state.fingerprint.clone(),
        };
        save::write_text(&self.out.join(REPORT), &format!("{}\n", serde_json::to_string_pretty(&report)?))?;
        best::forget(self.out)?;
        checkpoint::forget(self.out)?;
        Ok(report)
    }

    fn tokens(&mut self) -> u64 {
        let steps = self.state.step;
        let count = |trainer: &mut Self, step| -> u64 {
            trainer.order.step(step).iter().map(|row| trainer.objective.tokens(*row) as u64).sum()
        };
        (0..steps).map(|step| count(self, step)).sum()
    }
}
