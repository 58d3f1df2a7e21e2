//! `sipf model` and adapters, as a user meets them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sipf_tests::{data, run, run_well, sipf, skipped, workspace};

fn golden(name: &str) -> PathBuf {
    workspace().join("tests/golden/model").join(name)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    let numbers = |row: &Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    value.as_array().unwrap().iter().map(numbers).collect()
}

/// `sipf model logits` over the ids of a golden file.
fn logits(model: &Path, adapter: Option<&Path>, ids: &Value) -> Vec<Vec<f64>> {
    let ids: Vec<String> = ids.as_array().unwrap().iter().map(Value::to_string).collect();
    let mut command = sipf();
    command.args(["model", "logits", "--json", "--ids", &ids.join(","), "--model"]).arg(model);
    if let Some(adapter) = adapter {
        command.arg("--adapter").arg(adapter);
    }
    rows(&json(&run_well(&mut command))["logits"])
}

fn assert_close(found: &[Vec<f64>], expected: &[Vec<f64>], within: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() < within, "{what}: {a} for {b}");
    }
}

fn numbers(name: &str) -> Value {
    json(&std::fs::read_to_string(golden(name).join("golden.json")).unwrap())
}

#[test]
fn logits_and_adapters_equal_the_references() {
    for family in ["llama", "qwen3", "gemma2", "phi"] {
        let golden_numbers = numbers(family);
        let found = logits(&golden(family), None, &golden_numbers["ids"]);
        assert_close(&found, &rows(&golden_numbers["logits"]), 2e-4, family);
    }
    for (family, adapter) in [
        ("llama", "lora"),
        ("llama", "lora-rslora"),
        ("llama", "lora-patterns"),
        ("llama", "lora-expressions"),
        ("llama-tied-bias", "lora-tied-head"),
    ] {
        let golden_numbers = numbers(adapter);
        let found = logits(&golden(family), Some(&golden(adapter)), &golden_numbers["ids"]);
        assert_close(&found, &rows(&golden_numbers["logits"]), 2e-4, adapter);
    }
}

#[test]
fn a_merged_adapter_is_a_model_of_its_own() {
    let out = tempfile::tempdir().unwrap();
    let merged = out.path().join("merged");
    let mut merge = sipf();
    merge.args(["model", "merge", "--json", "--model"]).arg(golden("llama"));
    merge.arg("--adapter").arg(golden("lora-rslora")).arg("--out").arg(&merged);
    assert_eq!(json(&run_well(&mut merge))["adapted_layers"], 14);
    let golden_numbers = numbers("lora-rslora");
    let found = logits(&merged, None, &golden_numbers["ids"]);
    assert_close(&found, &rows(&golden_numbers["logits"]), 2e-4, "merged");
    let shown = json(&run_well(sipf().args(["model", "show", "--json", "--check", "--model"]).arg(&merged)));
    assert_eq!((&shown["family"], &shown["output_layer"]), (&"llama".into(), &true.into()));
}

#[test]
fn a_head_that_an_adapter_gave_a_tied_model_is_merged_too() {
    let out = tempfile::tempdir().unwrap();
    let merged = out.path().join("merged");
    let mut merge = sipf();
    merge.args(["model", "merge", "--model"]).arg(golden("llama-tied-bias"));
    run_well(merge.arg("--adapter").arg(golden("lora-tied-embedding")).arg("--out").arg(&merged));
    let golden_numbers = numbers("lora-tied-embedding");
    let found = logits(&merged, None, &golden_numbers["ids"]);
    assert_close(&found, &rows(&golden_numbers["logits"]), 2e-4, "merged");
    let config = json(&std::fs::read_to_string(merged.join("config.json")).unwrap());
    assert_eq!(config["tie_word_embeddings"], false);
}

/// The golden Llama with a tokenizer of so many words.
fn with_words(words: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("llama").join(name), folder.path().join(name)).unwrap();
    }
    let tokenizer = sipf_core::model::Tokenizer::numbered(words).unwrap();
    tokenizer.inner().save(folder.path().join("tokenizer.json"), false).unwrap();
    folder
}

#[test]
fn a_tokenizer_with_ids_that_the_model_lacks_is_refused_by_every_command() {
    let folder = with_words(49);
    let rows = folder.path().join("rows.jsonl");
    std::fs::write(&rows, r#"{"prompt": "w1", "completion": " w2"}"#).unwrap();
    let rows = rows.to_str().unwrap();
    for arguments in [
        &["model", "show"][..],
        &["generate", "--prompt", "w1", "--max-tokens", "1"],
        &["sft", "--max-steps", "1", "--data", rows, "--dry-run"],
    ] {
        let ran = run(sipf().args(arguments).arg("--model").arg(folder.path()));
        assert_eq!(ran.status, Some(2), "{arguments:?}: {}", ran.stderr);
        for part in ["tokenizer.json", "49", "48"] {
            assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
        }
    }
}

#[test]
fn weights_that_are_not_read_are_told_by_every_command() {
    let folder = with_words(48);
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    let fewer = config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    assert_ne!(fewer, config);
    std::fs::write(folder.path().join("config.json"), fewer).unwrap();
    for arguments in [&["model", "show", "--json"][..], &["model", "logits", "--json", "--ids", "5"]] {
        let ran = run(sipf().args(arguments).arg("--model").arg(folder.path()));
        assert_eq!(ran.status, Some(0), "{arguments:?}: {}", ran.stderr);
        json(&ran.stdout);
        let told = ran.stderr.contains("9 tensors are not read") && ran.stderr.contains("model.layers.1.");
        assert!(told, "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_gguf_file_converts_and_serves_as_a_model() {
    let out = tempfile::tempdir().unwrap();
    let file = golden("gguf").join("llama.gguf");
    let converted =
        run_well(sipf().args(["model", "convert", "--json"]).arg(&file).arg("--out").arg(out.path()));
    assert_eq!(json(&converted)["family"], "llama");
    let golden_numbers = numbers("gguf");
    for model in [out.path(), &file] {
        let found = logits(model, None, &golden_numbers["ids"]);
        assert_close(&found, &rows(&golden_numbers["logits"]), 4e-3, "gguf");
    }
    let text =
        run_well(sipf().args(["generate", "--max-tokens", "4", "--prompt", "the end", "--model"]).arg(file));
    assert!(!text.trim().is_empty());
}

#[test]
fn a_damaged_folder_is_told_by_file_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("llama").join(name), folder.path().join(name)).unwrap();
    }
    let show = || run(sipf().args(["model", "show", "--json", "--model"]).arg(folder.path()));
    assert_eq!(show().status, Some(0));
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let ran = show();
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("model.safetensors") && ran.stderr.contains("again"), "{}", ran.stderr);
    std::fs::write(&weights, bytes).unwrap();
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.replace("\"llama\"", "\"mamba\"")).unwrap();
    let ran = show();
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("config.json") && ran.stderr.contains("mamba"), "{}", ran.stderr);
}

#[test]
fn llama2_c_s_stories_become_a_folder_that_tells_the_published_story() {
    let Some(source) = data().map(|data| data.join("stories260k")).filter(|folder| folder.is_dir()) else {
        return skipped("no stories260k");
    };
    let out = tempfile::tempdir().unwrap();
    run_well(sipf().args(["model", "convert"]).arg(source).arg("--out").arg(out.path()));
    let mut generate = sipf();
    generate.args(["generate", "--json", "--prompt", "", "--max-tokens", "200", "--model"]).arg(out.path());
    let told = json(&run_well(&mut generate));
    // What `./run stories260K.bin -t 0` of llama2.c prints, and its tests compare.
    let published = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. \
        One day, she saw a big, red ball. She wanted to play with it, but it was too high.\n\
        Lily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to \
        play with your ball, but I can't find it.\"\nLily was sad and didn't know what to do. She said, \"I'm sorry, Lily. \
        I didn't know what to do.\"\nLily didn't want to help her mom, so she";
    let text = told["completions"][0]["text"].as_str().unwrap().trim_start();
    assert!(text.starts_with(published), "{text}");
}

/// The other way round: PEFT reads what we write. Needs a Python with torch, transformers and peft.
#[test]
fn peft_reads_our_adapters() {
    let Some(python) = std::env::var_os("SIPF_PEER_PYTHON") else {
        return skipped(
            "PEFT is not asked about our adapters (set SIPF_PEER_PYTHON to a python with torch and peft)",
        );
    };
    let out = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..8)
        .map(|i| {
            format!(r#"{{"prompt": "w{} w{}", "completion": " w{} w{}"}}"#, 5 + i, 9 + i, 20 + i, 30 + i)
        })
        .collect();
    let base = out.path().join("base");
    std::fs::create_dir(&base).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("llama").join(name), base.join(name)).unwrap();
    }
    let tokenizer = sipf_core::model::Tokenizer::numbered(48).unwrap();
    tokenizer.inner().save(base.join("tokenizer.json"), false).unwrap();
    std::fs::write(base.join("tokenizer_config.json"), r#"{"eos_token": "w2"}"#).unwrap();
    std::fs::write(out.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    for (name, rslora) in [("plain", false), ("rslora", true)] {
        let adapter = out.path().join(name);
        let mut train = sipf();
        train.args([
            "sft",
            "--max-steps",
            "4",
            "--batch-size",
            "4",
            "--learning-rate",
            "0.05",
            "--lora-r",
            "4",
        ]);
        train.args(["--lora-alpha", "6", "--lora-targets", "all-linear", "--model"]).arg(&base);
        train.arg("--data").arg(out.path().join("rows.jsonl")).arg("--out").arg(&adapter);
        if rslora {
            train.arg("--rslora");
        }
        run_well(&mut train);
        let ids = json("[3, 17, 40, 5, 22, 9]");
        let ours = logits(&base, Some(&adapter), &ids);
        let plain = logits(&base, None, &ids);
        assert!(ours.iter().flatten().zip(plain.iter().flatten()).any(|(a, b)| (a - b).abs() > 1e-2));
        let script = workspace().join("tests/peers/adapter_peft.py");
        let theirs =
            run_well(Command::new(&python).arg(script).arg(&base).arg(&adapter).arg("3,17,40,5,22,9"));
        assert_close(&ours, &rows_of(&theirs), 2e-4, name);
    }
}

fn rows_of(output: &str) -> Vec<Vec<f64>> {
    let line = output.lines().last().unwrap_or_default();
    rows(&json(line)["logits"])
}
