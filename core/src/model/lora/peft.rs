//! Adapters in PEFT's files. What a file holds and its settings ask for is computed as PEFT does, or refused by name.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Tensor, Var};
use serde_json::{Value, json};

use super::pattern::{Pattern, Patterns};
use super::{Adapter, LoraConfig, Part, ends_in, is_outer, modules};
use crate::error::{AtPath, Error, Result};
use crate::model::config::DecoderConfig;
use crate::model::{load, names, save};

/// In front of every name in PEFT's files.
const PREFIX: &str = "base_model.model.";

impl Adapter {
    /// Its variables by PEFT's names.
    pub fn variables(&self) -> Vec<(String, Var)> {
        self.parts
            .iter()
            .flat_map(|(layer, part)| {
                [
                    (format!("{PREFIX}{layer}.lora_A.weight"), part.a.clone()),
                    (format!("{PREFIX}{layer}.lora_B.weight"), part.b.clone()),
                ]
            })
            .collect()
    }

    /// Reads `adapter_config.json` and `adapter_model.safetensors`. Whole weights saved beside are returned by their
    /// plain names.
    ///
    /// # Errors
    /// Names the file, key or tensor at fault; a tensor that has no place in the model is one.
    pub fn load(
        folder: &Path,
        config: &DecoderConfig,
        like: &Tensor,
    ) -> Result<(Self, BTreeMap<String, Tensor>)> {
        let settings = read_config(&folder.join("adapter_config.json"), config)?;
        let path = folder.join("adapter_model.safetensors");
        let file = load::SafeFile::open(&path)?;
        let layers: BTreeMap<String, (usize, usize)> =
            settings.targets(config)?.into_iter().map(|(layer, out, input)| (layer, (out, input))).collect();
        let weights = own_weights(config);
        let (mut pairs, mut whole) = (BTreeMap::new(), BTreeMap::new());
        for name in file.names() {
            let plain = name.strip_prefix(PREFIX).unwrap_or(&name);
            let tensor = file.tensor(&name, None, like.device())?.to_dtype(like.dtype())?;
            let shape = |expected: &[usize]| match tensor.dims() == expected {
                true => Ok(()),
                false => Err(Error::file(
                    &path,
                    format!("tensor {name} is {:?}, the model needs {expected:?}", tensor.dims()),
                )),
            };
            match plain.strip_suffix(".lora_A.weight").or_else(|| plain.strip_suffix(".lora_B.weight")) {
                None => {
                    // PEFT keeps the weight of an adapted layer under another name and leaves such a tensor out.
                    let place = weights.get(plain).filter(|_| !layers.contains_key(names::layer(plain)));
                    let Some(expected) = place else {
                        return Err(Error::file(
                            &path,
                            format!(
                                "tensor {name} has no place: it is neither lora_A nor lora_B of a layer that \
                                target_modules name, nor a weight that the model has beside them"
                            ),
                        ));
                    };
                    shape(expected)?;
                    whole.insert(plain.to_owned(), tensor);
                }
                Some(layer) => {
                    let (out, input) = *layers.get(layer).ok_or_else(|| {
                        Error::file(&path, format!("tensor {name} adapts a layer that the model does not have or the targets do not name"))
                    })?;
                    let r = settings.rank(layer)?;
                    let is_a = plain.ends_with(".lora_A.weight");
                    shape(&if is_a { [r, input] } else { [out, r] })?;
                    let entry: &mut (Option<Var>, Option<Var>) = pairs.entry(layer.to_owned()).or_default();
                    let place = if is_a { &mut entry.0 } else { &mut entry.1 };
                    *place = Some(Var::from_tensor(&tensor)?);
                }
            }
        }
        let missing = |name: &str, key: &str| {
            Err(Error::file(&path, format!("tensor {PREFIX}{name} is missing; {key} name it")))
        };
        let mut parts = BTreeMap::new();
        for layer in layers.into_keys() {
            let part = match pairs.remove(&layer) {
                Some((Some(a), Some(b))) => Part { a, b, scaling: settings.scaling(&layer)? },
                Some(_) => {
                    return Err(Error::file(
                        &path,
                        format!("layer {layer} has only one of lora_A and lora_B"),
                    ));
                }
                None => return missing(&format!("{layer}.lora_A.weight"), "target_modules"),
            };
            parts.insert(layer, part);
        }
        // The head of a tied model that stays tied is written under one name or under both.
        let written = |name: &str| {
            whole.contains_key(name)
                || settings.ensure_weight_tying
                    && config.tied
                    && [names::EMBEDDING, names::HEAD].contains(&name)
        };
        if let Some(name) = weights.keys().find(|name| settings.saves(name) && !written(name)) {
            return missing(name, "modules_to_save");
        }
        Ok((Self { config: settings, parts }, whole))
    }

    /// Writes PEFT's files. `base` is the base model's name, `whole` what `modules_to_save` names.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn save(
        &self,
        folder: &Path,
        base: &str,
        task_type: &str,
        whole: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        std::fs::create_dir_all(folder).at(folder)?;
        let mut tensors: BTreeMap<String, Tensor> = self
            .variables()
            .into_iter()
            .map(|(name, variable)| (name, variable.as_tensor().clone()))
            .collect();
        tensors.extend(whole.iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor.clone())));
        save::write_tensors(&folder.join("adapter_model.safetensors"), &tensors)?;
        let c = &self.config;
        let mut json = json!({
            "peft_type": "LORA", "task_type": task_type, "base_model_name_or_path": base, "revision": null,
            "inference_mode": true, "r": c.r, "lora_alpha": c.lora_alpha, "lora_dropout": c.lora_dropout, "bias": "none",
            "target_modules": c.target_modules, "fan_in_fan_out": false, "init_lora_weights": true,
            "use_rslora": c.use_rslora, "use_dora": false,
            "modules_to_save": if c.modules_to_save.is_empty() { Value::Null } else { json!(c.modules_to_save) },
            "rank_pattern": c.rank_pattern, "alpha_pattern": c.alpha_pattern, "layers_to_transform": null,
            "layers_pattern": null, "auto_mapping": null, "loftq_config": {}, "layer_replication": null,
            "megatron_config": null, "megatron_core": "megatron.core",
        });
        if c.ensure_weight_tying {
            json["ensure_weight_tying"] = true.into();
        }
        if c.target_modules == ["all-linear"] {
            // PEFT writes the layers' names; it reads both.
            json["target_modules"] = json!(self.parts.keys().collect::<Vec<_>>());
        }
        let path = folder.join("adapter_config.json");
        save::write_text(&path, &format!("{}\n", serde_json::to_string_pretty(&json)?))?;
        let card =
            format!("---\nbase_model: {base}\nlibrary_name: peft\n---\n\nA LoRA adapter written by sipf.\n");
        save::write_text(&folder.join("README.md"), &card)
    }
}

/// The weights that a file may hold whole: the model's, and the head that a tied model may be given.
fn own_weights(config: &DecoderConfig) -> BTreeMap<String, Vec<usize>> {
    let mut weights: BTreeMap<_, _> = names::all(config).into_iter().collect();
    weights.entry(names::HEAD.to_owned()).or_insert_with(|| vec![config.vocab, config.hidden]);
    weights
}

/// Settings that change the arithmetic and are not supported: a value other than null, false or empty is refused.
const REFUSED: [&str; 14] = [
    "use_dora",
    "alora_invocation_tokens",
    "target_parameters",
    "layer_replication",
    "fan_in_fan_out",
    "layers_to_transform",
    "use_qalora",
    "lora_bias",
    "trainable_token_indices",
    "use_bdlora",
    "monteclora_config",
    "kasa_config",
    "arrow_config",
    "velora_config",
];

/// The settings, with targets and exclusions as a list of names over this model.
fn read_config(path: &Path, config: &DecoderConfig) -> Result<LoraConfig> {
    let text = std::fs::read_to_string(path).at(path)?;
    let json: Value = serde_json::from_str(&text).map_err(|error| Error::file(path, error.to_string()))?;
    let bad = |message: String| Error::file(path, message);
    if json.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(bad("peft_type is not LORA, the only kind of adapter that is supported".into()));
    }
    for key in REFUSED {
        let value = json.get(key).unwrap_or(&Value::Null);
        let off = value.is_null() || value == &json!(false) || value == &json!([]) || value == &json!({});
        if !off {
            return Err(bad(format!("{key} is {value}, which is not supported")));
        }
    }
    let start = json.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
    if ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|kind| start.starts_with(kind)) {
        return Err(bad(format!(
            "init_lora_weights is {start:?}, which changes the base weights too and is not supported"
        )));
    }
    if json.get("bias").and_then(Value::as_str).is_some_and(|bias| bias != "none") {
        return Err(bad("bias other than \"none\" is not supported".into()));
    }
    let named = Named::read(&json, "target_modules").map_err(bad)?;
    let named = named.ok_or_else(|| bad("target_modules is missing".into()))?;
    let excluded = Named::read(&json, "exclude_modules").map_err(bad)?;
    let mut plain = json.clone();
    plain["target_modules"] = match (named, &excluded) {
        (Named::All, None) => json!([super::ALL_LINEAR]),
        (Named::Ends(ends), None) => json!(ends),
        (named, excluded) => {
            let mut layers = Vec::new();
            for (layer, _) in modules(config) {
                let out = excluded.as_ref().map_or(Ok(false), |excluded| excluded.holds(&layer))?;
                if !out && named.holds(&layer)? {
                    layers.push(layer);
                }
            }
            if layers.is_empty() {
                return Err(bad(format!("target_modules name no layer of {}", config.family)));
            }
            json!(layers)
        }
    };
    for key in ["modules_to_save", "rank_pattern", "alpha_pattern", "ensure_weight_tying"] {
        if plain.get(key).is_some_and(Value::is_null) {
            plain.as_object_mut().map(|object| object.remove(key));
        }
    }
    for key in ["rank_pattern", "alpha_pattern"] {
        if let Some(value) = plain.get(key) {
            serde_json::from_value::<Patterns<f64>>(value.clone())
                .map_err(|error| bad(format!("{key}: {error}")))?;
        }
    }
    serde_json::from_value(plain).map_err(|error| bad(error.to_string()))
}

/// Layers as PEFT's settings name them.
enum Named {
    /// Every linear layer but the output layer.
    All,
    /// By the ends of their names.
    Ends(Vec<String>),
    /// By a regular expression for the whole name.
    Matching(Pattern),
}

impl Named {
    fn read(json: &Value, key: &str) -> std::result::Result<Option<Self>, String> {
        match json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.eq_ignore_ascii_case(super::ALL_LINEAR) => Ok(Some(Self::All)),
            Some(Value::String(text)) => {
                let pattern = Pattern::whole(text).map_err(|error| format!("{key}: {error}"))?;
                Ok(Some(Self::Matching(pattern)))
            }
            Some(Value::Array(list)) => {
                let ends = list.iter().map(|value| match value.as_str() {
                    Some(text) => Ok(text.to_owned()),
                    None => Err(format!("{key} holds {value}, which is no name")),
                });
                let ends: Vec<String> = ends.collect::<std::result::Result<_, _>>()?;
                Ok((!ends.is_empty()).then_some(Self::Ends(ends)))
            }
            Some(other) => Err(format!("{key} is {other}, neither a list of names nor a text")),
        }
    }

    fn holds(&self, layer: &str) -> Result<bool> {
        match self {
            Self::All => Ok(!is_outer(layer)),
            Self::Ends(ends) => Ok(ends.iter().any(|end| ends_in(layer, end))),
            Self::Matching(pattern) => pattern.matches(layer),
        }
    }
}
