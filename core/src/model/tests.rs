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

/// Adapters and the families that they are for.
const ADAPTERS: [(&str, &str); 8] = [
    ("lora", "llama"),
    ("lora-rslora", "llama"),
    ("lora-patterns", "llama"),
    ("lora-regex", "llama"),
    ("lora-expressions", "llama"),
    ("lora-tied-head", "llama-tied-bias"),
    ("lora-tied-embedding", "llama-tied-bias"),
    ("lora-tied-both", "llama-tied-bias"),
];

#[test]
fn peft_s_adapters_give_peft_s_logits_apart_and_merged() {
    for (name, family) in ADAPTERS {
        let golden_numbers = numbers(name);
        let ids = ids(&golden_numbers["ids"]);
        let adapted = load(family, Trainable::Frozen).with_adapter(&golden(name)).unwrap();
        assert_eq!(adapted.config().tied, name == "lora-tied-both");
        let merged = tempfile::tempdir().unwrap();
        adapted.save(merged.path()).unwrap();
        let merged = Decoder::load(merged.path(), &LoadOptions::default()).unwrap();
        for decoder in [adapted.clone(), adapted.frozen_for_inference().unwrap(), merged] {
            let found = logits(&decoder, &[&ids]);
            for (row, expected) in found.iter().zip(golden_numbers["logits"].as_array().unwrap()) {
                for (a, b) in row.iter().zip(expected.as_array().unwrap()) {
                    assert!((f64::from(*a) - b.as_f64().unwrap()).abs() < 2e-4, "{name}: {a} for {b}");
                }
            }
        }
    }
}

#[test]
fn adapters_are_written_as_peft_writes_them() {
    for (name, family) in ADAPTERS {
        let adapted = load(family, Trainable::Frozen).with_adapter(&golden(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        adapted.save_adapter(folder.path(), family).unwrap();
        let open = |folder: &Path| load::SafeFile::open(&folder.join("adapter_model.safetensors")).unwrap();
        let (ours, theirs) = (open(folder.path()), open(&golden(name)));
        assert_eq!(ours.names(), theirs.names(), "{name}");
        for tensor in ours.names() {
            let of = |file: &load::SafeFile| {
                let tensor = file.tensor(&tensor, None, &Device::Cpu).unwrap();
                (tensor.dims().to_vec(), tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            };
            assert_eq!(of(&ours), of(&theirs), "{name}: {tensor}");
        }
        let config = |folder: &Path| -> Value {
            serde_json::from_str(&std::fs::read_to_string(folder.join("adapter_config.json")).unwrap())
                .unwrap()
        };
        let (ours, theirs) = (config(folder.path()), config(&golden(name)));
        for key in [
            "peft_type",
            "task_type",
            "r",
            "lora_alpha",
            "use_rslora",
            "rank_pattern",
            "bias",
            "modules_to_save",
        ] {
            let same = ours[key] == theirs[key]
                || ours[key].as_f64().is_some_and(|x| theirs[key].as_f64() == Some(x));
            assert!(same, "{name}: {key} is {} for {}", ours[key], theirs[key]);
        }
        let alphas = |config: &Value| -> lora::Patterns<f64> {
            serde_json::from_value(config["alpha_pattern"].clone()).unwrap()
        };
        assert_eq!(alphas(&ours), alphas(&theirs), "{name}");
    }
}

#[test]
fn a_tied_head_trains_with_its_embedding_or_not_at_all() {
    let train = |module: &str| {
        let lora = LoraConfig { modules_to_save: vec![module.to_owned()], ..LoraConfig::default() };
        Decoder::load(
            &golden("llama-tied-bias"),
            &LoadOptions { trainable: Trainable::Lora(lora), ..LoadOptions::default() },
        )
    };
    for (module, part) in [("lm_head", "name embed_tokens"), ("score", "score")] {
        let message = train(module).err().expect("refused").to_string();
        assert!(message.contains("modules_to_save") && message.contains(part), "{message}");
    }
    let decoder = train("embed_tokens").unwrap();
    for (name, variable) in decoder.trainable() {
        if name == "model.embed_tokens.weight" {
            variable.set(&(variable.as_tensor() * 1.5).unwrap()).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    decoder.save_adapter(folder.path(), "base").unwrap();
    let back = load("llama-tied-bias", Trainable::Frozen).with_adapter(folder.path()).unwrap();
    assert!(back.config().tied);
    let ids = ids(&numbers("llama")["ids"]);
    assert_eq!(logits(&back, &[&ids]), logits(&decoder, &[&ids]));
}

#[test]
fn whole_modules_train_beside_an_adapter() {
    let lora = LoraConfig {
        target_modules: vec!["all-linear".into()],
        modules_to_save: vec!["lm_head".into()],
        lora_dropout: 0.3,
        ..LoraConfig::default()
    };
    let decoder = load("llama", Trainable::Lora(lora));
    let ids = ids(&numbers("llama")["ids"]);
    let pass = |key: u64, checkpointing| Pass { dropout: Some(key), checkpointing };
    for (name, variable) in decoder.trainable() {
        if name.ends_with("lora_B.weight") {
            variable.set(&(variable.as_tensor().ones_like().unwrap() * 0.05).unwrap()).unwrap();
        }
    }
    let of = |pass: &Pass| -> Vec<(String, Vec<f32>)> {
        let store = remat::gradients(&loss(&decoder, &ids, pass)).unwrap();
        decoder
            .trainable()
            .iter()
            .map(|(name, v)| {
                let gradient = store.get(v.as_tensor()).unwrap_or_else(|| panic!("{name} has no gradient"));
                (name.clone(), gradient.flatten_all().unwrap().to_vec1().unwrap())
            })
            .collect()
    };
    let first = of(&pass(1, false));
    assert_eq!(first, of(&pass(1, true)), "dropout is drawn again as it was");
    assert_ne!(first, of(&pass(2, false)));
    assert!(first.iter().any(|(name, _)| name == "lm_head.weight"));
    for (name, gradient) in &first {
        assert!(gradient.iter().any(|g| *g != 0.0), "{name}");
    }
}

#[test]
fn frozen_weights_get_no_gradient() {
    for family in FAMILIES {
        let lora = LoraConfig { target_modules: vec!["all-linear".into()], ..LoraConfig::default() };
        let decoder = load(family, Trainable::Lora(lora));
        let ids = ids(&numbers(family)["ids"]);
        let store = remat::gradients(&loss(&decoder, &ids, &Pass::default())).unwrap();
        for (name, weight) in decoder.weights().iter() {
            // The embedding of a tied head meets the plain product of this test's loss.
            assert!(store.get(weight).is_none(), "{family}: {name}");
        }
        for (name, variable) in decoder.trainable() {
            assert!(store.get(variable.as_tensor()).is_some(), "{family}: {name}");
        }
    }
}

/// Rows of a batch, and gradients, on this many threads.
fn on_threads<T: Send>(threads: usize, work: impl Fn() -> T + Send + Sync) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn logits_have_the_same_bits_in_any_batch_on_any_threads() {
    // Wide enough for several threads to share each product.
    let mut source: Value =
        serde_json::from_str(&std::fs::read_to_string(golden("llama").join("config.json")).unwrap()).unwrap();
    for (key, value) in
        [("hidden_size", 64), ("intermediate_size", 176), ("vocab_size", 301), ("head_dim", 16)]
    {
        source[key] = value.into();
    }
    let config = arch::parse(&source).unwrap();
    let decoder = Decoder::init(config, &LoadOptions::default(), 5).unwrap();
    let sequence = |n: u32| -> Vec<u32> { (0..17 + n % 5).map(|i| (i * 37 + n * 11) % 301).collect() };
    let alone = on_threads(1, || logits(&decoder, &[&sequence(0)]));
    let packed_decoder = decoder.frozen_for_inference().unwrap();
    for batch in [1u32, 7, 64] {
        let all: Vec<Vec<u32>> = (0..batch).map(sequence).collect();
        let all: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
        for threads in [1, 2, 5] {
            for decoder in [&decoder, &packed_decoder] {
                let found = on_threads(threads, || logits(decoder, &all));
                assert_eq!(found[..alone.len()], alone[..], "batch {batch}, {threads} threads");
            }
        }
    }
}

#[test]
fn gradients_have_the_same_bits_on_any_threads() {
    for family in ["qwen2", "gemma2", "phi"] {
        let ids = ids(&numbers(family)["ids"]);
        let ids: Vec<u32> = ids.iter().cycle().take(300).copied().collect();
        let decoder = load(family, Trainable::Full);
        let bits = |threads: usize| -> Vec<Vec<f32>> {
            on_threads(threads, || {
                let store = remat::gradients(&loss(&decoder, &ids, &Pass::default())).unwrap();
                let of = |v: &candle_core::Var| {
                    store.get(v.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
                };
                decoder.trainable().iter().map(|(_, v)| of(v)).collect()
            })
        };
        let one = bits(1);
        assert_eq!(one, bits(2), "{family}");
        assert_eq!(one, bits(5), "{family}");
    }
}

#[test]
fn what_other_devices_compute_is_the_same_model() {
    // In f64 every operation is composed of candle's, as on a GPU.
    for family in FAMILIES {
        let golden_numbers = numbers(family);
        let ids = ids(&golden_numbers["ids"]);
        let options = LoadOptions {
            dtype: candle_core::DType::F64,
            trainable: Trainable::Full,
            ..LoadOptions::default()
        };
        let (wide, plain) =
            (Decoder::load(&golden(family), &options).unwrap(), load(family, Trainable::Full));
        let (wide_loss, plain_loss) =
            (loss(&wide, &ids, &Pass::default()), loss(&plain, &ids, &Pass::default()));
        let (ours, theirs) = (remat::gradients(&plain_loss).unwrap(), remat::gradients(&wide_loss).unwrap());
        for ((name, a), (_, b)) in plain.trainable().iter().zip(wide.trainable()) {
            let a = ours.get(a.as_tensor()).unwrap().to_dtype(candle_core::DType::F64).unwrap();
            let b = theirs.get(b.as_tensor()).unwrap_or_else(|| panic!("{family}: {name} has no gradient"));
            let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
            let apart = norm(&(a - b).unwrap()) / norm(b).max(1e-6);
            assert!(apart < 1e-4, "{family}: gradient of {name} is {apart} off");
        }
    }
}
