//! The trainer on a loss of one number: what it promises whatever is trained.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor, Var};
use serde_json::{Value, json};

use super::*;
use crate::model::Pass;
use crate::progress::Progress;
use crate::{AtPath, Error, Result};

/// `(w - x)^2` over numbers x.
struct Distance {
    w: Var,
    xs: Vec<f32>,
    /// Set after so many losses.
    stop: AtomicBool,
    losses_left: Cell<usize>,
}

impl Distance {
    fn new(xs: &[f32]) -> Self {
        let w = Var::new(&[0.0_f32], &Device::Cpu).expect("a variable");
        Self { w, xs: xs.to_vec(), stop: AtomicBool::new(false), losses_left: Cell::new(usize::MAX) }
    }
}

impl Objective for Distance {
    fn rows(&self) -> usize {
        self.xs.len()
    }

    fn tokens(&self, _: usize) -> usize {
        1
    }

    fn name(&self, row: usize) -> String {
        format!("numbers.jsonl, line {}", row + 1)
    }

    fn weight(&self, rows: &[usize]) -> f64 {
        rows.len() as f64
    }

    fn loss(&self, rows: &[usize], _: &Pass) -> Result<PartialLoss> {
        let xs: Vec<f32> = rows.iter().map(|row| self.xs[*row]).collect();
        let xs = Tensor::from_vec(xs, rows.len(), &Device::Cpu)?;
        let sum = self.w.broadcast_sub(&xs)?.sqr()?.sum_all()?;
        self.losses_left.set(self.losses_left.get() - 1);
        if self.losses_left.get() == 0 {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(PartialLoss { sum, metrics: Metrics::default() })
    }

    fn trainable(&self) -> Vec<(String, Var)> {
        vec![("w".into(), self.w.clone())]
    }

    fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join("w.txt");
        std::fs::write(&path, format!("{:?}", self.w.to_vec1::<f32>()?)).at(&path)
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut print = Fingerprint::new(&json!("distance"));
        print.numbers(&self.xs);
        print
    }
}

fn settings() -> TrainSettings {
    TrainSettings {
        max_steps: 30,
        batch_size: 2,
        learning_rate: 0.1,
        save_steps: 4,
        ..TrainSettings::default()
    }
}

fn run(
    objective: &Distance,
    eval: Option<&dyn Objective>,
    settings: &TrainSettings,
    out: &Path,
) -> Result<TrainReport> {
    train(objective, eval, settings, out, &objective.stop, &Progress::quiet())
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with("events.out"))
        .map(|entry| {
            let bytes = std::fs::read(entry.path()).expect("a file");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn stopped_and_gone_on_with_gives_the_same_bytes() {
    let numbers = [1.0, 2.0, 3.0, 4.0, 5.0];
    let (whole, parts) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    run(&Distance::new(&numbers), None, &settings(), whole.path()).expect("trained");
    let mut interruptions = 0;
    loop {
        let objective = Distance::new(&numbers);
        objective.losses_left.set(7);
        match run(&objective, None, &settings(), parts.path()) {
            Err(Error::Interrupted) => interruptions += 1,
            ended => break drop(ended.expect("trained")),
        }
    }
    assert_eq!(interruptions, 4);
    assert_eq!(files(whole.path()), files(parts.path()));
}

#[test]
fn a_finished_folder_is_left_alone_and_another_training_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = run(&Distance::new(&[1.0, 2.0]), None, &settings(), folder.path()).expect("trained");
    let before = files(folder.path());
    assert_eq!(run(&Distance::new(&[1.0, 2.0]), None, &settings(), folder.path()).expect("kept"), report);
    assert_eq!(files(folder.path()), before);
    let error = run(&Distance::new(&[1.0, 3.0]), None, &settings(), folder.path()).expect_err("other rows");
    assert!(error.to_string().contains("another model, rows or settings"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_names_its_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = TrainSettings { batch_size: 4, shuffle: false, ..settings() };
    let error = run(&Distance::new(&[1.0, 2.0, f32::NAN, 4.0]), None, &settings, folder.path());
    let error = error.expect_err("no number");
    let why = std::error::Error::source(&error).expect("a reason").to_string();
    assert!(why.contains("step 1: numbers.jsonl, line 3") && !why.contains("line 2"), "{why}");
    assert!(error.to_string().contains("no checkpoint yet"), "{error}");
}

#[test]
fn the_best_weights_are_kept_and_training_stops_when_nothing_gets_better() {
    let folder = tempfile::tempdir().expect("a folder");
    // Training moves w towards 10; evaluation is best at 1.
    let (train_rows, eval) = (Distance::new(&[10.0]), Distance::new(&[1.0]));
    let eval = Distance { w: train_rows.w.clone(), ..eval };
    let settings = TrainSettings {
        max_steps: 100,
        batch_size: 1,
        lr_schedule: Schedule::Constant,
        eval_steps: 1,
        keep_best: true,
        early_stop: 3,
        ..settings()
    };
    let report = run(&train_rows, Some(&eval), &settings, folder.path()).expect("trained");
    let (step, loss) = report.best.expect("a best step");
    assert_eq!(report.steps, step + 3);
    assert!(loss < 0.01, "{report:?}");
    let kept = f64::from(train_rows.w.to_vec1::<f32>().expect("a value")[0]);
    assert!((kept - 1.0).abs() < 0.1, "{kept}");
    let names: Vec<String> = files(folder.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["metrics.jsonl", "training.json", "w.txt"]);
    let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).expect("metrics");
    let evaluations = text.lines().filter(|line| line.contains("eval_loss")).count();
    assert_eq!(evaluations, report.steps);
    let first: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["step"], 1);
}

#[test]
fn keeping_the_best_needs_rows_to_evaluate_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = TrainSettings { keep_best: true, ..settings() };
    let error = run(&Distance::new(&[1.0]), None, &settings, folder.path()).expect_err("no rows");
    assert!(error.to_string().contains("eval-data"), "{error}");
}
