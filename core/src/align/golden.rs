//! Alignment losses against TRL's numbers (tests/golden/align): token ids, losses, metrics, gradients, and 20 steps.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::*;
use crate::model::{Decoder, LoadOptions, Pass, Tokenizer, Trainable};
use crate::progress::Progress;
use crate::train::{self, Objective, TrainSettings};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/align")
}

fn golden() -> Value {
    let text = std::fs::read_to_string(folder().join("golden.json")).expect("golden numbers");
    serde_json::from_str(&text).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(number).collect()
}

fn model(name: &str, trainable: Trainable) -> Decoder {
    let options = LoadOptions { trainable, ..LoadOptions::default() };
    Decoder::load(&folder().join(name), &options).expect("a model")
}

fn tokenizer() -> Tokenizer {
    Tokenizer::load(&folder().join("model")).expect("a tokenizer")
}

fn rows(golden: &Value) -> Vec<PreferenceRow> {
    let text = |row: &Value, key: &str| row[key].as_str().expect("text").to_owned();
    let row = |row: &Value| PreferenceRow {
        prompt: text(row, "prompt"),
        chosen: text(row, "chosen"),
        rejected: text(row, "rejected"),
        ..PreferenceRow::default()
    };
    golden["rows"].as_array().expect("rows").iter().map(row).collect()
}

fn sft_rows(golden: &Value) -> Vec<SftRow> {
    rows(golden).into_iter().map(PreferenceRow::into_chosen).collect()
}

fn length(golden: &Value) -> usize {
    number(&golden["max_length"]) as usize
}

fn orpo(golden: &Value, nll_scope: NllScope) -> Orpo {
    Orpo { beta: number(&golden["beta"]), nll_scope }
}

fn dpo(golden: &Value) -> (Vec<tokens::PairTokens>, Dpo) {
    let pairs: Vec<tokens::PairTokens> = rows(golden)
        .iter()
        .map(|row| tokens::dpo(&tokenizer(), row, length(golden)).expect("tokens"))
        .collect();
    let frozen = model("reference", Trainable::Frozen);
    let reference = Reference::compute(&frozen, &pairs, 4, &Progress::quiet()).expect("scores");
    (pairs, Dpo { beta: number(&golden["beta"]), reference })
}

#[test]
fn rows_are_tokenised_and_split_as_trl_does() {
    let golden = golden();
    let tokenizer = tokenizer();
    let check = |key: &str, tokenise: &dyn Fn(&PreferenceRow) -> tokens::PairTokens| {
        for (row, wanted) in rows(&golden).iter().zip(golden[key].as_array().expect("rows")) {
            let pair = tokenise(row);
            for (half, wanted) in [(&pair.chosen, &wanted["chosen"]), (&pair.rejected, &wanted["rejected"])] {
                assert_eq!(serde_json::json!(half.ids), wanted["ids"], "{key}: {row:?}");
                assert_eq!(serde_json::json!(half.completion), wanted["completion"], "{key}: {row:?}");
            }
        }
    };
    check("orpo-tokens", &|row| tokens::orpo(&tokenizer, row, length(&golden)).expect("tokens"));
    check("dpo-tokens", &|row| tokens::dpo(&tokenizer, row, length(&golden)).expect("tokens"));
}

/// Loss within 1e-5, metrics within 1e-4, gradients of every tensor within 1e-4 relative.
fn agrees(golden: &Value, name: &str, objective: &dyn Objective) {
    let all: Vec<usize> = (0..objective.rows()).collect();
    let partial = objective.loss(&all, &Pass::default()).expect("a loss");
    let loss = (partial.sum / objective.weight(&all)).expect("a mean");
    let value = f64::from(loss.to_scalar::<f32>().expect("a number"));
    let wanted = number(&golden[name]["loss"]);
    assert!((value - wanted).abs() < 1e-5, "{name}: {value}, TRL {wanted}");
    for (key, wanted) in golden[name]["metrics"].as_object().into_iter().flatten() {
        let found = partial.metrics.mean(key).unwrap_or_else(|| panic!("{name}: no metric {key}"));
        let off = (found - number(wanted)).abs() / number(wanted).abs().max(1.0);
        assert!(off < 1e-4, "{name}: {key} is {found}, TRL {wanted}");
    }
    let grads = loss.backward().expect("gradients");
    let path = folder().join(format!("{name}.safetensors"));
    let reference = candle_core::safetensors::load(path, &Device::Cpu).expect("gradients");
    let trainable = objective.trainable();
    assert_eq!(trainable.len(), reference.len(), "{name}: trained tensors");
    for (tensor, var) in trainable {
        let found = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}: no gradient of {tensor}"));
        let wanted = &reference[&tensor];
        let norm =
            |x: &Tensor| x.sqr().and_then(|x| x.sum_all()?.to_scalar::<f32>()).expect("a number").sqrt();
        let off = norm(&(found - wanted).expect("equal shapes")) / norm(wanted).max(1e-6);
        assert!(off < 1e-4, "{name}: {tensor} is off by {off}");
    }
}

#[test]
fn orpo_equals_trl_in_every_nll_scope() {
    let golden = golden();
    for (name, scope) in [
        ("orpo-sequence", NllScope::Sequence),
        ("orpo-completion", NllScope::Completion),
        ("orpo-sequence-mean", NllScope::SequenceMean),
        ("orpo-completion-mean", NllScope::CompletionMean),
    ] {
        let policy = model("model", Trainable::Full);
        let loss = orpo(&golden, scope);
        let objective =
            OrpoObjective::new(policy, &tokenizer(), &rows(&golden), loss, length(&golden)).expect("pairs");
        agrees(&golden, name, &objective);
    }
}

#[test]
fn dpo_and_rpo_equal_trl() {
    let golden = golden();
    let (pairs, dpo) = dpo(&golden);
    let policy = model("model", Trainable::Full);
    agrees(&golden, "dpo", &DpoObjective::of_tokens(policy.clone(), pairs.clone(), dpo.clone()));
    agrees(&golden, "rpo", &RpoObjective::of_tokens(policy, pairs, Rpo::new(dpo)));
}

#[test]
fn sft_equals_trl() {
    let golden = golden();
    let policy = model("model", Trainable::Full);
    let rows = sft_rows(&golden);
    agrees(&golden, "sft", &SftObjective::new(policy, &tokenizer(), &rows, length(&golden)).expect("rows"));
}

/// 20 steps with warm-up, decay, weight decay, clipping and accumulation: losses and gradient norms within 1e-4 relative.
fn follows(golden: &Value, name: &str, objective: &dyn Objective) {
    let steps = &golden["steps"];
    let settings = TrainSettings {
        max_steps: number(&steps["max_steps"]) as usize,
        batch_size: number(&steps["batch_size"]) as usize,
        grad_accum: number(&steps["gradient_accumulation_steps"]) as usize,
        learning_rate: number(&steps["learning_rate"]),
        weight_decay: number(&steps["weight_decay"]),
        warmup_steps: number(&steps["warmup_steps"]) as usize,
        max_grad_norm: number(&steps["max_grad_norm"]),
        adam_beta2: number(&steps["adam_beta2"]),
        shuffle: false,
        ..TrainSettings::default()
    };
    let out = tempfile::tempdir().expect("a folder");
    let stop = AtomicBool::new(false);
    train::train(objective, None, &settings, out.path(), &stop, &Progress::quiet()).expect("trained");
    let text = std::fs::read_to_string(out.path().join("metrics.jsonl")).expect("metrics");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (key, wanted) in [("loss", "losses"), ("grad_norm", "grad_norm")] {
        let wanted = numbers(&golden[name][wanted]);
        assert_eq!(lines.len(), wanted.len());
        for (line, wanted) in lines.iter().zip(wanted) {
            let off = (number(&line[key]) - wanted).abs() / wanted;
            assert!(off < 1e-4, "{name}, step {}: {key} {}, torch {wanted}", line["step"], line[key]);
        }
    }
}

#[test]
fn twenty_steps_follow_torch() {
    let golden = golden();
    let few = number(&golden["steps"]["rows"]) as usize;
    let policy = model("model", Trainable::Full);
    let loss = orpo(&golden, NllScope::Sequence);
    let pairs = OrpoObjective::new(policy, &tokenizer(), &rows(&golden)[..few], loss, length(&golden))
        .expect("pairs");
    follows(&golden, "orpo-steps", &pairs);
    let policy = model("model", Trainable::Full);
    let rows = &sft_rows(&golden)[..few];
    let rows = SftObjective::new(policy, &tokenizer(), rows, length(&golden)).expect("rows");
    follows(&golden, "sft-steps", &rows);
}
