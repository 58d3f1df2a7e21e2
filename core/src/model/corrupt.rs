//! Damaged model folders: each is an error that names the file and what is wrong in it; none panics, none is read
//! outside of itself.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/model")
}

/// A whole model folder: one weight file, a tokenizer.
fn whole() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", WEIGHTS] {
        std::fs::copy(golden().join("llama").join(name), folder.path().join(name)).unwrap();
    }
    let tokenizer = Tokenizer::numbered(48).unwrap();
    tokenizer.inner().save(folder.path().join("tokenizer.json"), false).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"bos_token": "w1"}"#).unwrap();
    folder
}

/// The same in shards.
fn sharded() -> TempDir {
    let folder = whole();
    let decoder = Decoder::load(folder.path(), &LoadOptions::default()).unwrap();
    save::write_shards(folder.path(), &decoder.merged().unwrap(), 5000).unwrap();
    assert!(!folder.path().join(WEIGHTS).exists() && folder.path().join(INDEX).is_file());
    folder
}

/// The same with an adapter in `adapter/`.
fn adapted() -> TempDir {
    let folder = whole();
    let adapter = folder.path().join("adapter");
    std::fs::create_dir(&adapter).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(golden().join("lora").join(name), adapter.join(name)).unwrap();
    }
    folder
}

/// Everything that looking at a folder closely does.
fn open(folder: &Path) -> Result<(), crate::Error> {
    let checkpoint = Checkpoint::open(folder)?;
    checkpoint.check_finite()?;
    Tokenizer::load(folder)?;
    let decoder = Decoder::of_checkpoint(&checkpoint, &LoadOptions::default())?;
    let adapter = folder.join("adapter");
    if adapter.is_dir() {
        decoder.with_adapter(&adapter)?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

fn edit(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&read(folder, name)).unwrap();
    change(&mut json);
    write(folder, name, json.to_string());
}

fn set(folder: &Path, key: &str, value: Value) {
    edit(folder, "config.json", |json| json[key] = value);
}

fn cut(folder: &Path, name: &str, keep: usize) {
    let bytes = read(folder, name);
    write(folder, name, &bytes[..keep]);
}

/// Rewrites the header of a weight file: a JSON text of another length moves nothing, offsets count from its end.
fn header(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let bytes = read(folder, name);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut json: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(&mut json);
    let text = json.to_string();
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.bytes());
    out.extend(&bytes[8 + length..]);
    write(folder, name, out);
}

/// Replaces tensors of a weight file.
fn tensors(folder: &Path, name: &str, change: impl FnOnce(&mut std::collections::BTreeMap<String, Tensor>)) {
    let file = load::SafeFile::open(&folder.join(name)).unwrap();
    let mut all =
        file.names().into_iter().map(|n| (n.clone(), file.tensor(&n, None, &Device::Cpu).unwrap())).collect();
    drop(file);
    change(&mut all);
    save::write_tensors(&folder.join(name), &all).unwrap();
}

/// Adds a tensor of ones to the adapter.
fn put(folder: &Path, name: &str, shape: &[usize]) {
    tensors(folder, "adapter/adapter_model.safetensors", |all| {
        let ones = Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        all.insert(format!("base_model.model.{name}"), ones);
    });
}

fn shard_of(folder: &Path) -> String {
    let index: Value = serde_json::from_slice(&read(folder, INDEX)).unwrap();
    index["weight_map"]["model.norm.weight"].as_str().unwrap().to_owned()
}

fn spoil(folder: &Path, value: f32) {
    tensors(folder, WEIGHTS, |all| {
        let mut numbers = all["model.norm.weight"].to_vec1::<f32>().unwrap();
        numbers[3] = value;
        let tensor = Tensor::new(numbers.as_slice(), &Device::Cpu).unwrap();
        all.insert("model.norm.weight".into(), tensor);
    });
}

/// What is done to a folder, and what the message has to hold.
type Case = (&'static str, fn() -> TempDir, fn(&Path), &'static [&'static str]);

const NORM: &str = "model.norm.weight";
const QUERY: &str = "model.layers.0.self_attn.q_proj.weight";

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("no config.json", whole, |f| std::fs::remove_file(f.join("config.json")).unwrap(), &["config.json", "not found", "copy what is missing"]),
    ("an adapter in place of a model", whole, |f| std::fs::rename(f.join("config.json"), f.join("adapter_config.json")).unwrap(), &["config.json", "--adapter"]),
    ("config.json is empty", whole, |f| write(f, "config.json", ""), &["config.json", "EOF"]),
    ("config.json is cut off", whole, |f| cut(f, "config.json", 60), &["config.json", "line"]),
    ("config.json is a list", whole, |f| write(f, "config.json", "[1]"), &["config.json", "model_type"]),
    ("config.json is no text", whole, |f| write(f, "config.json", [0xff, 0xfe, 0]), &["config.json", "UTF-8"]),
    ("an unknown architecture", whole, |f| set(f, "model_type", json!("mamba")), &["config.json", "mamba", "llama"]),
    ("a size is missing", whole, |f| set(f, "hidden_size", Value::Null), &["config.json", "hidden_size"]),
    ("a size is text", whole, |f| set(f, "hidden_size", json!("many")), &["config.json", "hidden_size", "many"]),
    ("a size is zero", whole, |f| set(f, "num_attention_heads", json!(0)), &["config.json", "num_attention_heads"]),
    ("a size is absurd", whole, |f| set(f, "num_hidden_layers", json!(1e18)), &["config.json", "num_hidden_layers"]),
    ("a size is negative", whole, |f| set(f, "vocab_size", json!(-1)), &["config.json", "vocab_size"]),
    ("heads do not divide", whole, |f| set(f, "num_key_value_heads", json!(3)), &["config.json", "num_key_value_heads 3"]),
    ("an odd head", whole, |f| set(f, "head_dim", json!(3)), &["config.json", "head of 3"]),
    ("an unknown rope", whole, |f| set(f, "rope_parameters", json!({"rope_type": "yarn"})), &["config.json", "yarn"]),
    ("a rope without its factor", whole, |f| set(f, "rope_parameters", json!({"rope_type": "linear"})), &["config.json", "factor"]),
    ("a rope factor of zero", whole, |f| set(f, "rope_parameters", json!({"rope_type": "linear", "factor": 0.0})), &["config.json", "rotary"]),
    ("rotary settings that are a list", whole, |f| set(f, "rope_parameters", json!([1])), &["config.json", "rope_parameters is [1]"]),
    ("rotary settings that are a text", whole, |f| set(f, "rope_scaling", json!("linear")), &["config.json", "rope_scaling is \"linear\""]),
    ("rotary settings of each layer", whole, |f| set(f, "rope_parameters", json!({"full_attention": {}})), &["config.json", "full_attention"]),
    ("a rope type that is a number", whole, |f| set(f, "rope_parameters", json!({"rope_type": 5})), &["config.json", "rope_parameters.rope_type is 5"]),
    ("another unknown rope beside a known one", whole, |f| set(f, "rope_scaling", json!({"type": "yarn", "factor": 2.0})), &["config.json", "rope_scaling", "yarn"]),
    ("an activation that is a number", whole, |f| set(f, "hidden_act", json!(5)), &["config.json", "hidden_act is 5"]),
    ("an end that is a text", whole, |f| set(f, "eos_token_id", json!("2")), &["config.json", "eos_token_id", "\"2\""]),
    ("an end below zero", whole, |f| set(f, "eos_token_id", json!(-1)), &["config.json", "eos_token_id", "-1"]),
    ("an end among ends that is a text", whole, |f| set(f, "eos_token_id", json!([2, "x"])), &["config.json", "eos_token_id", "\"x\""]),
    ("a generation_config.json whose end is a text", whole, |f| write(f, "generation_config.json", r#"{"eos_token_id": "x"}"#), &["generation_config.json", "eos_token_id"]),
    ("an unknown activation", whole, |f| set(f, "hidden_act", json!("snake")), &["config.json", "snake"]),
    ("another arithmetic", whole, |f| set(f, "residual_multiplier", json!(0.2)), &["config.json", "residual_multiplier"]),
    ("quantised weights", whole, |f| set(f, "quantization_config", json!({"quant_method": "gptq"})), &["config.json", "gptq"]),
    ("more layers than weights", whole, |f| set(f, "num_hidden_layers", json!(3)), &[WEIGHTS, "model.layers.2."]),
    ("another width than the weights", whole, |f| set(f, "intermediate_size", json!(25)), &[WEIGHTS, "mlp.", "25"]),
    ("another vocabulary than the weights", whole, |f| set(f, "vocab_size", json!(50)), &[WEIGHTS, "embed_tokens", "50"]),
    ("generation_config.json is cut off", whole, |f| write(f, "generation_config.json", "{"), &["generation_config.json"]),
    ("no weights", whole, |f| std::fs::remove_file(f.join(WEIGHTS)).unwrap(), &[WEIGHTS, "not found"]),
    ("pickled weights", whole, |f| std::fs::rename(f.join(WEIGHTS), f.join("pytorch_model.bin")).unwrap(), &[WEIGHTS, "pickled"]),
    ("empty weights", whole, |f| write(f, WEIGHTS, ""), &[WEIGHTS, "too short"]),
    ("weights are a text", whole, |f| write(f, WEIGHTS, "version https://git-lfs.github.com/spec/v1"), &[WEIGHTS]),
    ("weights are cut off", whole, |f| cut(f, WEIGHTS, 9000), &[WEIGHTS, "fetch or copy it again"]),
    ("the header is cut off", whole, |f| cut(f, WEIGHTS, 100), &[WEIGHTS, "fetch or copy it again"]),
    ("a header longer than the file", whole, |f| {
        let mut bytes = read(f, WEIGHTS);
        bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        write(f, WEIGHTS, bytes);
    }, &[WEIGHTS]),
    ("a header that is no JSON", whole, |f| {
        let mut bytes = read(f, WEIGHTS);
        bytes[8] = b'x';
        write(f, WEIGHTS, bytes);
    }, &[WEIGHTS]),
    ("offsets beyond the file", whole, |f| header(f, WEIGHTS, |h| h[NORM]["data_offsets"] = json!([0, 1u64 << 50])), &[WEIGHTS]),
    ("offsets that overlap", whole, |f| header(f, WEIGHTS, |h| h[NORM]["data_offsets"] = json!([0, 64])), &[WEIGHTS]),
    ("a type without floats", whole, |f| header(f, WEIGHTS, |h| h[NORM]["dtype"] = json!("I32")), &[WEIGHTS, NORM, "I32"]),
    ("a shape turned around", whole, |f| header(f, WEIGHTS, |h| h["lm_head.weight"]["shape"] = json!([16, 48])), &[WEIGHTS, "lm_head.weight", "[48, 16]"]),
    ("a missing tensor", whole, |f| tensors(f, WEIGHTS, |all| drop(all.remove(QUERY))), &[WEIGHTS, QUERY]),
    ("a tensor of another shape", whole, |f| tensors(f, WEIGHTS, |all| drop(all.insert(QUERY.into(), all[NORM].clone()))), &[WEIGHTS, QUERY, "[16, 16]"]),
    ("a NaN", whole, |f| spoil(f, f32::NAN), &[WEIGHTS, NORM, "NaN"]),
    ("an infinity", whole, |f| spoil(f, f32::NEG_INFINITY), &[WEIGHTS, NORM, "infinity"]),
    ("the index is cut off", sharded, |f| cut(f, INDEX, 80), &[INDEX]),
    ("the index has no map", sharded, |f| write(f, INDEX, "{}"), &[INDEX, "weight_map"]),
    ("the index is empty", sharded, |f| edit(f, INDEX, |j| j["weight_map"] = json!({})), &[INDEX, "empty"]),
    ("the index names a number", sharded, |f| edit(f, INDEX, |j| j["weight_map"][NORM] = json!(7)), &[INDEX, NORM]),
    ("a shard is missing", sharded, |f| std::fs::remove_file(f.join(shard_of(f))).unwrap(), &[INDEX, "model-0", "missing"]),
    ("a shard is cut off", sharded, |f| cut(f, &shard_of(f), 40), &["model-0", "fetch or copy it again"]),
    ("a shard lacks its tensor", sharded, |f| tensors(f, &shard_of(f), |all| drop(all.remove(NORM))), &[NORM, "in any of the weight files"]),
    ("two shards hold a tensor", sharded, |f| std::fs::copy(f.join(shard_of(f)), f.join("again.safetensors")).map(|_| edit(f, INDEX, |j| j["weight_map"]["more"] = json!("again.safetensors"))).unwrap(), &["safetensors", "too"]),
    ("the index leads up", sharded, |f| edit(f, INDEX, |j| j["weight_map"][NORM] = json!("../model.safetensors")), &[INDEX, NORM, "leads out"]),
    ("the index leads to the root", sharded, |f| edit(f, INDEX, |j| j["weight_map"][NORM] = json!("/etc/passwd")), &[INDEX, NORM, "leads out"]),
    ("the index leads down and up", sharded, |f| edit(f, INDEX, |j| j["weight_map"][NORM] = json!("a/../../b")), &[INDEX, NORM, "leads out"]),
    ("no tokenizer", whole, |f| std::fs::remove_file(f.join("tokenizer.json")).unwrap(), &["tokenizer.json", "not found", "copy what is missing"]),
    ("the tokenizer is cut off", whole, |f| cut(f, "tokenizer.json", 50), &["tokenizer.json"]),
    ("the tokenizer lacks a special token", whole, |f| write(f, "tokenizer_config.json", r#"{"eos_token": "</s>"}"#), &["tokenizer_config.json", "eos_token", "</s>"]),
    ("the tokenizer makes more ids than the model knows", whole, |f| Tokenizer::numbered(49).unwrap().inner().save(f.join("tokenizer.json"), false).unwrap(), &["tokenizer.json", "49", "48"]),
    ("an adapter of another kind", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["peft_type"] = json!("IA3")), &["adapter_config.json", "peft_type"]),
    ("an adapter with other arithmetic", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["use_dora"] = json!(true)), &["adapter_config.json", "use_dora"]),
    ("an adapter for no layer", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["target_modules"] = json!(["nothing"])), &["nothing"]),
    ("an adapter of another rank", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["r"] = json!(5)), &["adapter_model.safetensors", "lora_A", "[5, 24]"]),
    ("half an adapter", adapted, |f| tensors(f, "adapter/adapter_model.safetensors", |all| drop(all.pop_last())), &["adapter_model.safetensors", "only one"]),
    ("an adapter with a tensor of no layer", adapted, |f| put(f, "foo.weight", &[3]), &["adapter_model.safetensors", "foo.weight", "no place"]),
    ("an adapter with a magnitude", adapted, |f| put(f, "model.layers.0.self_attn.q_proj.lora_magnitude_vector", &[16]), &["adapter_model.safetensors", "lora_magnitude_vector", "no place"]),
    ("an adapter with the weight of an adapted layer", adapted, |f| put(f, "model.layers.0.self_attn.q_proj.weight", &[16, 16]), &["adapter_model.safetensors", "q_proj.weight", "no place"]),
    ("an adapter with the embedding's", adapted, |f| put(f, "model.embed_tokens.lora_embedding_A", &[4, 48]), &["adapter_model.safetensors", "lora_embedding_A", "no place"]),
    ("an adapter of the embedding", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["target_modules"] = json!(["q_proj", "embed_tokens"])), &["model.embed_tokens", "not supported"]),
    ("an adapter of the output layer", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["target_modules"] = json!(["q_proj", "lm_head"])), &["lm_head", "not supported"]),
    ("an adapter without its whole weight", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["modules_to_save"] = json!(["lm_head"])), &["adapter_model.safetensors", "lm_head.weight is missing", "modules_to_save"]),
    ("an adapter with a whole weight of another shape", adapted, |f| put(f, "lm_head.weight", &[7, 16]), &["adapter_model.safetensors", "lm_head.weight", "[48, 16]"]),
    ("an adapter with a broken expression", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["alpha_pattern"] = json!({"(q_proj": 3})), &["adapter_config.json", "alpha_pattern", "(q_proj"]),
    ("an adapter with a rank that is none", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["rank_pattern"] = json!({"q_proj": "x"})), &["adapter_config.json", "rank_pattern", "q_proj"]),
    ("an adapter of excluded layers", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["exclude_modules"] = json!(["q_proj"])), &["adapter_model.safetensors", "q_proj.lora_A", "targets do not name"]),
    ("an adapter that excludes everything", adapted, |f| edit(f, "adapter/adapter_config.json", |j| j["exclude_modules"] = json!(".*")), &["adapter_config.json", "no layer"]),
    ("an adapter without weights", adapted, |f| std::fs::remove_file(f.join("adapter/adapter_model.safetensors")).unwrap(), &["adapter_model.safetensors"]),
];

#[test]
fn undamaged_folders_open() {
    for make in [whole, sharded, adapted] {
        open(make().path()).unwrap();
    }
}

#[test]
fn every_damage_is_named() {
    assert!(CASES.len() >= 40);
    for (what, make, damage, expected) in CASES {
        let folder = make();
        damage(folder.path());
        let message = match open(folder.path()) {
            Ok(()) => panic!("{what}: opened"),
            Err(error) => error.to_string(),
        };
        for part in *expected {
            assert!(message.contains(part), "{what}: {part:?} is not in {message:?}");
        }
    }
}

#[test]
fn weights_that_are_not_read_are_told() {
    let folder = whole();
    assert_eq!(Checkpoint::open(folder.path()).unwrap().unread(), None);
    tensors(folder.path(), WEIGHTS, |all| {
        let table = all[NORM].clone();
        all.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), table.clone());
        all.insert("score.weight".into(), table);
    });
    assert_eq!(Checkpoint::open(folder.path()).unwrap().unread(), None);
    set(folder.path(), "num_hidden_layers", json!(1));
    let told = Checkpoint::open(folder.path()).unwrap().unread().unwrap();
    assert!(told.contains("9 tensors") && told.contains("model.layers.1.input_layernorm.weight"), "{told}");
}

#[test]
fn a_head_of_its_own_is_the_head_whatever_the_settings_say() {
    let folder = whole();
    let logits = |folder: &Path| {
        let decoder = Decoder::load(folder, &LoadOptions::default()).unwrap();
        let packed = Packed::of_lengths([3]);
        let hidden = decoder
            .hidden(&[5, 6, 7], &packed.positions(), Attention::Packed(&packed), &Pass::default())
            .unwrap();
        (decoder.config().tied, decoder.logits(&hidden).unwrap().to_vec2::<f32>().unwrap())
    };
    let before = logits(folder.path());
    set(folder.path(), "tie_word_embeddings", json!(true));
    assert_eq!(logits(folder.path()), before);
    let out = tempfile::tempdir().unwrap();
    Decoder::load(folder.path(), &LoadOptions::default()).unwrap().save(out.path()).unwrap();
    assert_eq!(logits(out.path()), before, "what is written says so");
    tensors(folder.path(), WEIGHTS, |all| {
        let embedding = all["model.embed_tokens.weight"].clone();
        all.insert("lm_head.weight".into(), embedding);
    });
    assert!(logits(folder.path()).0, "a head that is the embedding stays tied");
}

#[test]
fn rotary_settings_are_taken_as_transformers_5_takes_them() {
    let folder = whole();
    let read = |change: &[(&str, Value)]| {
        edit(folder.path(), "config.json", |json| {
            for key in ["rope_parameters", "rope_scaling", "rope_theta"] {
                json.as_object_mut().unwrap().remove(key);
            }
            for (key, value) in change {
                json[*key] = value.clone();
            }
        });
        let config = load::read_config(folder.path()).unwrap();
        (config.rope_scaling, config.rope_theta)
    };
    let linear = config::RopeScaling::Linear { factor: 2.0 };
    let five = ("rope_parameters", json!({"rope_type": "default", "rope_theta": 5e5}));
    assert_eq!(read(std::slice::from_ref(&five)), (config::RopeScaling::None, 5e5));
    assert_eq!(read(&[five.clone(), ("rope_scaling", json!({}))]).1, 5e5);
    let four = ("rope_scaling", json!({"type": "linear", "factor": 2.0}));
    assert_eq!(read(&[five.clone(), four.clone()]), (linear, 1e4), "the other object does not count at all");
    assert_eq!(read(&[five, four.clone(), ("rope_theta", json!(777.0))]), (linear, 777.0));
    let inside = ("rope_scaling", json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}));
    assert_eq!(read(&[inside, ("rope_theta", json!(777.0))]), (linear, 5e5));
}

#[test]
fn gemma_s_activations_are_those_of_transformers_5() {
    use config::FeedForward::Gated;
    use kernels::activation::Activation::{Gelu, GeluTanh, Relu};
    let read = |family: &str, keys: Value| {
        let text = std::fs::read_to_string(golden().join(family).join("config.json")).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        let object = json.as_object_mut().unwrap();
        object.retain(|key, _| !key.starts_with("hidden_act"));
        object.extend(keys.as_object().unwrap().clone());
        arch::parse(&json).unwrap().feed_forward
    };
    assert_eq!(read("gemma", json!({"hidden_act": "gelu"})), Gated(GeluTanh));
    assert_eq!(read("gemma", json!({"hidden_act": "relu", "hidden_activation": "gelu"})), Gated(Relu));
    assert_eq!(read("gemma", json!({"hidden_activation": "relu"})), Gated(GeluTanh));
    assert_eq!(read("gemma2", json!({"hidden_activation": "gelu"})), Gated(Gelu));
    assert_eq!(read("gemma2", json!({"hidden_act": "relu"})), Gated(GeluTanh));
}

#[test]
fn unknown_extra_keys_are_kept() {
    let folder = whole();
    set(folder.path(), "a_key_of_tomorrow", json!({"x": 1}));
    let decoder = Decoder::load(folder.path(), &LoadOptions::default()).unwrap();
    let out = tempfile::tempdir().unwrap();
    decoder.save(out.path()).unwrap();
    let config: Value = serde_json::from_slice(&read(out.path(), "config.json")).unwrap();
    assert_eq!(config["a_key_of_tomorrow"], json!({"x": 1}));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_never_panic(at in 0usize..3000, to: u8, config: bool) {
        let folder = whole();
        let name = if config { "config.json" } else { WEIGHTS };
        let mut bytes = read(folder.path(), name);
        let at = at % bytes.len();
        bytes[at] = to;
        write(folder.path(), name, bytes);
        // An error or not: a flipped digit of a number may go unnoticed.
        drop(open(folder.path()));
    }

    #[test]
    fn cut_off_weights_are_always_noticed(keep in 0usize..12_000) {
        let folder = whole();
        let length = read(folder.path(), WEIGHTS).len();
        cut(folder.path(), WEIGHTS, keep.min(length - 1));
        prop_assert!(open(folder.path()).is_err());
    }
}
