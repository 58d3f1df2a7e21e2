//! The decoder against the reference implementation's numbers (`tests/golden/model/make.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::*;

const FAMILIES: [&str; 10] = [
    "llama",
    "llama-tied-bias",
    "llama-linear",
    "llama-llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "phi",
];

fn golden(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/model").join(family)
}

fn numbers(family: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(family).join("golden.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn load(family: &str, trainable: Trainable) -> Decoder {
    Decoder::load(&golden(family), &LoadOptions { trainable, ..LoadOptions::default() }).unwrap()
}

fn logits(decoder: &Decoder, sequences: &[&[u32]]) -> Vec<Vec<f32>> {
    let packed = Packed::of_lengths(sequences.iter().map(|s| s.len()));
    let hidden = decoder
        .hidden(&sequences.concat(), &packed.positions(), Attention::Packed(&packed), &Pass::default())
        .unwrap();
    decoder.logits(&hidden).unwrap().to_vec2().unwrap()
}

fn loss(decoder: &Decoder, ids: &[u32], pass: &Pass) -> Tensor {
    let packed = Packed::of_lengths([ids.len()]);
    let hidden = decoder.hidden(ids, &packed.positions(), Attention::Packed(&packed), pass).unwrap();
    let logits = decoder.logits(&hidden).unwrap().narrow(0, 0, ids.len() - 1).unwrap();
    let targets = Tensor::from_slice(&ids[1..], ids.len() - 1, &Device::Cpu).unwrap();
    candle_nn::loss::cross_entropy(&logits, &targets).unwrap()
}

#[test]
fn logits_equal_the_reference_s() {
    for family in FAMILIES {
        let golden = numbers(family);
        let ids = ids(&golden["ids"]);
        for decoder in
            [load(family, Trainable::Frozen), load(family, Trainable::Frozen).frozen_for_inference().unwrap()]
        {
            let found = logits(&decoder, &[&ids]);
            for (row, expected) in found.iter().zip(golden["logits"].as_array().unwrap()) {
                for (a, b) in row.iter().zip(expected.as_array().unwrap()) {
                    assert!((f64::from(*a) - b.as_f64().unwrap()).abs() < 2e-4, "{family}: {a} for {b}");
                }
            }
        }
    }
}

#[test]
fn gradients_equal_the_reference_s() {
    for family in FAMILIES {
        let golden_numbers = numbers(family);
        let ids = ids(&golden_numbers["ids"]);
        let decoder = load(family, Trainable::Full);
        let loss = loss(&decoder, &ids, &Pass::default());
        let value = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((value - golden_numbers["loss"].as_f64().unwrap()).abs() < 1e-5, "{family}: loss {value}");
        let found = remat::gradients(&loss).unwrap();
        let file = load::SafeFile::open(&golden(family).join("gradients.safetensors")).unwrap();
        for (name, variable) in decoder.trainable() {
            let expected = file.tensor(&name, None, &Device::Cpu).unwrap();
            let gradient =
                found.get(variable.as_tensor()).unwrap_or_else(|| panic!("{family}: {name} has no gradient"));
            let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
            let apart = norm(&(gradient - &expected).unwrap()) / norm(&expected).max(1e-6);
            assert!(apart < 1e-4, "{family}: gradient of {name} is {apart} off");
        }
    }
}

#[test]
fn greedy_tokens_equal_the_reference_s() {
    for family in FAMILIES {
        let golden = numbers(family);
        let decoder = load(family, Trainable::Frozen);
        let mut sequence = ids(&golden["prompt"]);
        let expected = ids(&golden["greedy"]);
        for token in expected {
            let last = logits(&decoder, &[&sequence]).pop().unwrap();
            let best = (0..last.len()).fold(0, |best, i| if last[i] > last[best] { i } else { best });
            assert_eq!(best as u32, token, "{family} after {sequence:?}");
            sequence.push(token);
        }
    }
}

#[test]
fn both_spellings_of_a_configuration_are_the_same_model() {
    let read = |file: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(golden("llama-linear").join(file)).unwrap()).unwrap()
    };
    let (new, old) = (
        arch::parse(&read("config.json")).unwrap(),
        arch::parse(&read("config_transformers4.json")).unwrap(),
    );
    assert_eq!(new.rope_scaling, old.rope_scaling);
    assert_eq!(new.rope_theta, old.rope_theta);
    assert_eq!(new.frequencies(), old.frequencies());
}

#[test]
fn packed_sequences_do_not_see_each_other() {
    for family in FAMILIES {
        let decoder = load(family, Trainable::Frozen);
        let (a, b): (Vec<u32>, Vec<u32>) = ((3..16).collect(), (20..29).collect());
        let both = logits(&decoder, &[&a, &b]);
        let apart = [logits(&decoder, &[&a]), logits(&decoder, &[&b])].concat();
        assert_eq!(both, apart, "{family}");
    }
}

#[test]
fn checkpointing_gives_the_same_gradients_to_the_bit() {
    for family in ["llama", "gemma2", "phi"] {
        let ids = ids(&numbers(family)["ids"]);
        let decoder = load(family, Trainable::Full);
        let bits = |checkpointing: bool| -> BTreeMap<String, Vec<u32>> {
            let store =
                remat::gradients(&loss(&decoder, &ids, &Pass { checkpointing, ..Pass::default() })).unwrap();
            let of = |v: &candle_core::Var| {
                store.get(v.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            decoder
                .trainable()
                .iter()
                .map(|(n, v)| (n.clone(), of(v).iter().map(|x| x.to_bits()).collect()))
                .collect()
        };
        assert_eq!(bits(false), bits(true), "{family}");
    }
}

#[test]
fn an_adapter_trains_alone_and_merges() {
    let lora = LoraConfig { r: 4, lora_alpha: 16.0, use_rslora: true, ..LoraConfig::default() };
    let decoder = load("llama", Trainable::Lora(lora));
    let ids = ids(&numbers("llama")["ids"]);
    for (name, variable) in decoder.trainable() {
        assert!(name.starts_with("base_model.model.model.layers."), "{name}");
        if name.ends_with("lora_B.weight") {
            let noise: Vec<f32> = (0..variable.elem_count()).map(|i| (i as f32 * 0.7).sin() * 0.1).collect();
            variable.set(&Tensor::from_vec(noise, variable.shape(), &Device::Cpu).unwrap()).unwrap();
        }
    }
    let plain = remat::gradients(&loss(&decoder, &ids, &Pass::default())).unwrap();
    let again =
        remat::gradients(&loss(&decoder, &ids, &Pass { checkpointing: true, ..Pass::default() })).unwrap();
    for (name, variable) in decoder.trainable() {
        let of = |store: &candle_core::backprop::GradStore| {
            store
                .get(variable.as_tensor())
                .unwrap_or_else(|| panic!("{name}"))
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        assert_eq!(of(&plain), of(&again), "{name}");
        assert!(of(&plain).iter().any(|g| *g != 0.0), "{name}");
    }
    let adapted = logits(&decoder, &[&ids]);
    let merged = logits(&decoder.frozen_for_inference().unwrap(), &[&ids]);
    for (a, b) in adapted.concat().iter().zip(merged.concat()) {
        assert!((a - b).abs() < 2e-4);
    }
    let folder = tempfile::tempdir().unwrap();
    decoder.save_adapter(folder.path(), "base").unwrap();
    let back = load("llama", Trainable::Frozen).with_adapter(folder.path()).unwrap();
    assert_eq!(logits(&back, &[&ids]), adapted);
}

#[test]
fn a_saved_checkpoint_loads_back_whole_and_in_shards() {
    for family in FAMILIES {
        let decoder = load(family, Trainable::Frozen);
        let ids = ids(&numbers(family)["ids"]);
        let folder = tempfile::tempdir().unwrap();
        decoder.save(folder.path()).unwrap();
        let back = Decoder::load(folder.path(), &LoadOptions::default()).unwrap();
        assert_eq!(logits(&back, &[&ids]), logits(&decoder, &[&ids]), "{family}");
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        save::write_shards(folder.path(), &decoder.merged().unwrap(), 5000).unwrap();
        let back = Decoder::load(folder.path(), &LoadOptions::default()).unwrap();
        assert_eq!(logits(&back, &[&ids]), logits(&decoder, &[&ids]), "{family} in shards");
    }
}
