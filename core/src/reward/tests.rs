//! Reward models against transformers' and TRL's numbers (tests/golden/reward), and their own promises.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use serde_json::Value;
use sipf_plugin::{Marker, Piece, Problem, Readout, RewardCard, RewardKind, RewardModel};

use super::layout::{self, Layout};
use super::{LabelRow, PrmObjective, RewardNet, RowLayout};
use crate::model::tiny::{self, Tiny};
use crate::model::{LoadOptions, Pass, Trainable};
use crate::progress::Progress;
use crate::train::{self, Objective, TrainSettings};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/reward")
}

fn numbers() -> Value {
    let text = std::fs::read_to_string(golden().join("golden.json")).expect("golden numbers");
    serde_json::from_str(&text).expect("JSON")
}

fn options(trainable: Trainable) -> LoadOptions {
    LoadOptions { trainable, ..LoadOptions::default() }
}

fn card(squash_hidden: bool) -> RewardCard {
    let readout = Readout::Classifier { labels: 2, positive: 1, squash_hidden, with_logprobs: false };
    RewardCard::process("golden").readout(readout)
}

fn rows(golden: &Value, key: &str) -> Vec<LabelRow> {
    let list = |value: &Value| value.as_array().expect("a list").clone();
    list(&golden["rows"])
        .iter()
        .enumerate()
        .map(|(number, row)| LabelRow {
            problem: String::new(),
            question: None,
            prompt: row["prompt"].as_str().expect("text").to_owned(),
            steps: list(&row["completions"])
                .iter()
                .map(|step| step.as_str().expect("text").to_owned())
                .collect(),
            labels: list(&row[key])
                .iter()
                .map(|label| {
                    label.as_f64().unwrap_or_else(|| f64::from(u8::from(label == &Value::Bool(true)))) as f32
                })
                .collect(),
            place: format!("row {number}"),
        })
        .collect()
}

fn objective(golden: &Value, key: &str, squash: bool) -> PrmObjective {
    let mut net =
        RewardNet::init(&golden_model(), &card(squash), &options(Trainable::Full)).expect("a classifier");
    net.set_max_length(golden["max_length"].as_u64().expect("a number") as usize);
    PrmObjective::new(net, &rows(golden, key), &RowLayout::Trl { separator: "\n" }, false, 1.0)
        .expect("an objective")
}

fn golden_model() -> PathBuf {
    golden().join("classifier")
}

#[test]
fn a_row_with_its_question_is_laid_out_as_the_problem_and_one_without_as_its_prompt() {
    let asks = |row: &LabelRow| {
        let problem = row.as_problem();
        (problem.question, problem.extra["asked"].as_str().map(str::to_owned))
    };
    let row = LabelRow { prompt: "1 + 1?".into(), question: Some("1 + 1?".into()), ..LabelRow::default() };
    assert_eq!(asks(&row), ("1 + 1?".into(), None));
    let row = LabelRow { prompt: "Q: 1 + 1?\n".into(), ..LabelRow::default() };
    assert_eq!(asks(&row), ("Q: 1 + 1?\n".into(), Some("Q: 1 + 1?\n".into())));
}

#[test]
fn labels_stand_where_trl_places_them() {
    let golden = numbers();
    let tokenizer = tiny::tokenizer().expect("a tokenizer");
    for (row, wanted) in rows(&golden, "labels").iter().zip(golden["layouts"].as_array().expect("layouts")) {
        let steps: Vec<&str> = row.steps.iter().map(String::as_str).collect();
        let mut layout = layout::trl(&tokenizer, &row.prompt, &steps, "\n").expect("a layout");
        layout.truncate(golden["max_length"].as_u64().expect("a number") as usize);
        assert_eq!(serde_json::json!(layout.ids), wanted["ids"]);
        assert_eq!(serde_json::json!(layout.reads), wanted["reads"]);
    }
}

#[test]
fn losses_and_gradients_equal_transformers() {
    let golden = numbers();
    for (name, key, squash) in
        [("plain", "labels", false), ("soft", "soft", false), ("squashed", "labels", true)]
    {
        let objective = objective(&golden, key, squash);
        let all: Vec<usize> = (0..objective.rows()).collect();
        let partial = objective.loss(&all, &Pass::default()).expect("a loss");
        let loss = (partial.sum / objective.weight(&all)).expect("a mean");
        let value = f64::from(loss.to_scalar::<f32>().expect("a number"));
        let wanted = golden[name]["loss"].as_f64().expect("a number");
        assert!((value - wanted).abs() < 1e-5, "{name}: {value}, transformers {wanted}");
        let accuracy = partial.metrics.mean("accuracy").expect("a metric");
        assert!((accuracy - golden[name]["accuracy"].as_f64().expect("a number")).abs() < 1e-6);
        let grads = loss.backward().expect("gradients");
        let reference = candle_core::safetensors::load(golden_path(name), &Device::Cpu).expect("gradients");
        let trainable = objective.trainable();
        assert_eq!(trainable.len(), reference.len(), "{name}: trained tensors");
        for (tensor, var) in trainable {
            let found =
                grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}: no gradient of {tensor}"));
            let wanted = &reference[&tensor];
            let norm =
                |x: &Tensor| x.sqr().and_then(|x| x.sum_all()?.to_scalar::<f32>()).expect("a number").sqrt();
            let off = norm(&(found - wanted).expect("equal shapes")) / norm(wanted).max(1e-6);
            assert!(off < 1e-4, "{name}: {tensor} is off by {off}");
        }
    }
}

fn golden_path(name: &str) -> PathBuf {
    golden().join(format!("{name}.safetensors"))
}

fn layouts(net: &RewardNet, golden: &Value) -> Vec<Layout> {
    rows(golden, "labels")
        .iter()
        .map(|row| {
            let steps: Vec<&str> = row.steps.iter().map(String::as_str).collect();
            let mut layout = layout::trl(net.tokenizer(), &row.prompt, &steps, "\n").expect("a layout");
            layout.truncate(golden["max_length"].as_u64().expect("a number") as usize);
            layout
        })
        .collect()
}

#[test]
fn scores_equal_transformers_survive_saving_and_do_not_depend_on_the_batch() {
    let golden = numbers();
    let net = RewardNet::load(&golden_model(), &card(false), &LoadOptions::default()).expect("a classifier");
    let layouts = layouts(&net, &golden);
    let together = net.score_layouts(&layouts).expect("scores");
    let flat: Vec<f32> = together.iter().flatten().copied().collect();
    for (score, wanted) in flat.iter().zip(golden["plain"]["scores"].as_array().expect("scores")) {
        assert!((f64::from(*score) - wanted.as_f64().expect("a number")).abs() < 1e-5);
    }
    let alone: Vec<Vec<f32>> = layouts
        .iter()
        .map(|one| net.score_layouts(std::slice::from_ref(one)).expect("scores").remove(0))
        .collect();
    assert_eq!(alone, together, "bits of a path's scores");
    let folder = tempfile::tempdir().expect("a folder");
    net.save(folder.path()).expect("saved");
    let again =
        RewardNet::load(folder.path(), &RewardCard::default(), &LoadOptions::default()).expect("a model");
    assert_eq!(again.card(), net.card());
    assert_eq!(again.score_layouts(&layouts).expect("scores"), together);
    let names = crate::model::Checkpoint::open_headless(folder.path()).expect("a checkpoint");
    assert!(names.has("score.weight") && names.has("score.bias") && !names.has("lm_head.weight"));
}

struct Lines(RewardCard);

impl RewardModel for Lines {
    fn card(&self) -> RewardCard {
        self.0.clone()
    }
}

fn tiny_net(card: &RewardCard, trainable: Trainable) -> crate::Result<RewardNet> {
    let folder = tempfile::tempdir().expect("a folder");
    Tiny::Policy.write(folder.path(), 3)?;
    RewardNet::init(folder.path(), card, &options(trainable))
}

fn equations() -> Vec<LabelRow> {
    let right = ["Tom has <<3+4=7>>7 apples.", "Tom has <<7-2=5>>5 apples."];
    let wrong = ["Tom has <<3+4=9>>9 apples.", "Tom has <<9-2=1>>1 apples."];
    (0..8)
        .map(|number| {
            let steps = if number % 2 == 0 { right } else { wrong };
            LabelRow {
                prompt: "Q: Tom has 3 apples.\nA:\n".into(),
                steps: steps.map(str::to_owned).to_vec(),
                labels: vec![f32::from(u8::from(number % 2 == 0)); 2],
                place: format!("row {number}"),
                ..LabelRow::default()
            }
        })
        .collect()
}

#[test]
fn a_head_with_log_probabilities_learns_and_is_found_again() {
    let readout = Readout::Classifier { labels: 2, positive: 1, squash_hidden: false, with_logprobs: true };
    let lines = Lines(RewardCard::process("lines").readout(readout));
    let net = tiny_net(&lines.0, Trainable::Full).expect("a model");
    let objective =
        PrmObjective::new(net, &equations(), &RowLayout::Pieces(&lines), false, 10.0).expect("an objective");
    assert_eq!(objective.learning_rate_scale("score_logprob.weight"), 10.0);
    let settings =
        TrainSettings { max_steps: 40, batch_size: 8, learning_rate: 1e-3, ..TrainSettings::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let report =
        train::train(&objective, None, &settings, folder.path(), &AtomicBool::new(false), &Progress::quiet())
            .expect("trained");
    assert!(report.final_loss < 0.1, "{report:?}");
    let net =
        RewardNet::load(folder.path(), &RewardCard::default(), &LoadOptions::default()).expect("a model");
    let rows = equations();
    let layouts: Vec<Layout> = rows[..2]
        .iter()
        .map(|row| {
            let steps: Vec<&str> = row.steps.iter().map(String::as_str).collect();
            net.layout(&lines, &row.as_problem(), &steps).expect("a layout")
        })
        .collect();
    let scores = net.frozen().expect("frozen").score_layouts(&layouts).expect("scores");
    assert!(
        scores[0].iter().all(|score| *score > 0.8) && scores[1].iter().all(|score| *score < 0.2),
        "{scores:?}"
    );
}

#[test]
fn outcome_labels_are_the_path_s_and_last_steps_can_stand_alone() {
    let mut rows = equations();
    rows[0].labels = vec![1.0, 0.0];
    let outcome = RewardCard { kind: RewardKind::Outcome, ..card(false) };
    let loss = |card: &RewardCard, rows: &[LabelRow], last: bool| {
        let net = tiny_net(card, Trainable::Full).expect("a model");
        let layout = RowLayout::Trl { separator: "\n" };
        let objective = PrmObjective::new(net, rows, &layout, last, 1.0).expect("an objective");
        let partial = objective.loss(&[0], &Pass::default()).expect("a loss");
        (objective.weight(&[0]), partial.sum.to_scalar::<f32>().expect("a number"))
    };
    let broadcast = loss(&outcome, &rows, false);
    let mut wrong = rows.clone();
    wrong[0].labels = vec![0.0, 0.0];
    assert_eq!(broadcast, loss(&card(false), &wrong, false));
    assert_eq!(loss(&card(false), &rows, true).0, 1.0);
}

#[test]
fn what_does_not_fit_the_tokenizer_is_refused() {
    let tokenizer = tiny::tokenizer().expect("a tokenizer");
    let marker = RewardCard::process("tagged").marker(Marker::Token { token: "<extra_0>".into() });
    let pieces = [Piece::text("a"), Piece::Marker];
    let error = layout::of_pieces(&tokenizer, &marker, &pieces, 1).expect_err("no such token").to_string();
    assert!(error.contains("<extra_0>"), "{error}");
    let plain = RewardCard::process("plain");
    let error = layout::of_pieces(&tokenizer, &plain, &pieces, 2).expect_err("one marker").to_string();
    assert!(error.contains("1 places to read for 2 steps"), "{error}");
    let pair =
        RewardCard::process("pair").readout(Readout::TokenPair { good: "yes!".into(), bad: "-".into() });
    let error = tiny_net(&pair, Trainable::Frozen).err().expect("no such token").to_string();
    assert!(error.contains("yes!"), "{error}");
    let long = LabelRow { prompt: "word ".repeat(400), ..equations().remove(0) };
    let mut net = tiny_net(&plain, Trainable::Full).expect("a model");
    net.set_max_length(64);
    let error = PrmObjective::new(net, &[long], &RowLayout::Trl { separator: "\n" }, false, 1.0);
    assert!(error.is_err_and(|error| error.to_string().contains("within 64 tokens")));
}

#[test]
fn a_pair_of_tokens_reads_through_the_vocabulary() {
    let pair = RewardCard::process("pair").readout(Readout::TokenPair { good: "+".into(), bad: "-".into() });
    let net = tiny_net(&pair, Trainable::Frozen).expect("a model");
    let steps = ["1 + 1 = 2", "2 + 2 = 4"];
    let layout = net.layout(&Lines(pair), &Problem::new("p/0", "Add."), &steps).expect("a layout");
    let scores = net.score_layouts(&[layout]).expect("scores").remove(0);
    assert!(scores.len() == 2 && scores.iter().all(|score| *score > 0.0 && *score < 1.0), "{scores:?}");
}
