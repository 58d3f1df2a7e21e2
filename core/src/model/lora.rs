//! Low-rank adapters in PEFT's form: `W x + scaling * B(A(dropout(x)))`, its names, its files.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sipf_plugin::random::Stream;

use super::config::DecoderConfig;
use super::names;
use crate::error::{AtPath, Error, Result};
use crate::stream::StreamName;

/// Settings of an adapter; names and meaning are PEFT's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// Scaling is `alpha / r`, or `alpha / sqrt(r)` with `use_rslora`.
    pub lora_alpha: f64,
    /// Dropout in front of A.
    pub lora_dropout: f64,
    /// Suffixes of layer names, or `all-linear`.
    pub target_modules: Vec<String>,
    /// Rank-stabilised scaling.
    pub use_rslora: bool,
    /// Layers that are trained whole and saved with the adapter.
    pub modules_to_save: Vec<String>,
    /// Ranks of single layers, by suffix.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas of single layers, by suffix.
    pub alpha_pattern: BTreeMap<String, f64>,
}

impl Default for LoraConfig {
    /// PEFT's defaults; targets as the paper's Unsloth path.
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
                .map(str::to_owned)
                .to_vec(),
            use_rslora: false,
            modules_to_save: Vec::new(),
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }
}

/// One layer's adapter.
#[derive(Debug, Clone)]
pub struct LoraPart {
    /// `[r, in]`.
    pub a: Tensor,
    /// `[out, r]`.
    pub b: Tensor,
    /// What the product is multiplied by.
    pub scaling: f64,
    /// Dropout in front of A.
    pub dropout: f64,
}

/// Whether a layer's name ends in this suffix at a dot.
fn ends_in(name: &str, suffix: &str) -> bool {
    name == suffix || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

impl LoraConfig {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the setting, as training commands call it, and its value.
    pub fn check(&self) -> Result<()> {
        Error::unless(self.r > 0, "lora-r", self.r, "1 or more")?;
        let holds = self.lora_alpha > 0.0 && self.lora_alpha.is_finite();
        Error::unless(holds, "lora-alpha", self.lora_alpha, "above 0")?;
        let holds = (0.0..1.0).contains(&self.lora_dropout);
        Error::unless(holds, "lora-dropout", self.lora_dropout, "0 or more and below 1")
    }

    /// The linear layers that get an adapter: name, outputs, inputs.
    ///
    /// # Errors
    /// When no layer matches.
    pub fn targets(&self, config: &DecoderConfig) -> Result<Vec<(String, usize, usize)>> {
        let all = self.target_modules.iter().any(|target| target == "all-linear");
        let found: Vec<_> = names::all(config)
            .into_iter()
            .filter_map(|(name, shape)| Some((name.strip_suffix(".weight")?.to_owned(), shape)))
            .filter(|(name, shape)| shape.len() == 2 && name != "model.embed_tokens" && name != "lm_head")
            .filter(|(name, _)| all || self.target_modules.iter().any(|target| ends_in(name, target)))
            .map(|(name, shape)| (name, shape[0], shape[1]))
            .collect();
        match found.is_empty() {
            true => Err(Error::unusable(format!(
                "no layer of {} is named by the adapter's targets {}",
                config.family,
                self.target_modules.join(", ")
            ))),
            false => Ok(found),
        }
    }

    /// Whether a whole weight is trained beside the adapter.
    pub fn saves(&self, weight: &str) -> bool {
        let layer = weight.strip_suffix(".weight").or_else(|| weight.strip_suffix(".bias")).unwrap_or(weight);
        self.modules_to_save.iter().any(|module| ends_in(layer, module))
    }

    fn rank(&self, layer: &str) -> usize {
        self.rank_pattern.iter().find(|(suffix, _)| ends_in(layer, suffix)).map_or(self.r, |(_, r)| *r)
    }

    /// What a layer's adapter is multiplied by.
    pub fn scaling(&self, layer: &str) -> f64 {
        let alpha = self
            .alpha_pattern
            .iter()
            .find(|(suffix, _)| ends_in(layer, suffix))
            .map_or(self.lora_alpha, |(_, a)| *a);
        let r = self.rank(layer) as f64;
        if self.use_rslora { alpha / r.sqrt() } else { alpha / r }
    }

    /// Fresh adapters: A uniform as kaiming with a = sqrt 5, B zero.
    ///
    /// # Errors
    /// When no layer matches.
    pub fn init(&self, config: &DecoderConfig, like: &Tensor, seed: u64) -> Result<Adapter> {
        let mut adapter = Adapter { config: self.clone(), parts: BTreeMap::new() };
        for (layer, outputs, inputs) in self.targets(config)? {
            let r = self.rank(&layer);
            let name = StreamName { seed, stage: "lora", problem: &layer, ..StreamName::default() };
            let mut stream = Stream::new(name.key());
            let bound = 1.0 / (inputs as f32).sqrt();
            let a: Vec<f32> = (0..r * inputs).map(|_| (2.0 * stream.next_unit() - 1.0) * bound).collect();
            let a = Tensor::from_vec(a, (r, inputs), like.device())?.to_dtype(like.dtype())?;
            let b = Tensor::zeros((outputs, r), like.dtype(), like.device())?;
            adapter.parts.insert(layer, (Var::from_tensor(&a)?, Var::from_tensor(&b)?));
        }
        Ok(adapter)
    }
}

/// An adapter's weights by layer: A and B.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Its settings.
    pub config: LoraConfig,
    /// Layer name to A and B.
    pub parts: BTreeMap<String, (Var, Var)>,
}

/// In front of every name in PEFT's files.
const PREFIX: &str = "base_model.model.";

impl Adapter {
    /// One layer's adapter.
    pub fn part(&self, layer: &str) -> Option<LoraPart> {
        let (a, b) = self.parts.get(layer)?;
        Some(LoraPart {
            a: a.as_tensor().clone(),
            b: b.as_tensor().clone(),
            scaling: self.config.scaling(layer),
            dropout: self.config.lora_dropout,
        })
    }

    /// Its variables by PEFT's names.
    pub fn variables(&self) -> Vec<(String, Var)> {
        self.parts
            .iter()
            .flat_map(|(layer, (a, b))| {
                [
                    (format!("{PREFIX}{layer}.lora_A.weight"), a.clone()),
                    (format!("{PREFIX}{layer}.lora_B.weight"), b.clone()),
                ]
            })
            .collect()
    }

    /// What is added to a layer's weight: `scaling * B @ A`, in f32.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn delta(&self, layer: &str) -> Result<Option<Tensor>> {
        let Some((a, b)) = self.parts.get(layer) else { return Ok(None) };
        let (a, b) = (a.as_tensor().to_dtype(DType::F32)?, b.as_tensor().to_dtype(DType::F32)?);
        Ok(Some((b.matmul(&a)? * self.config.scaling(layer))?))
    }

    /// Reads `adapter_config.json` and `adapter_model.safetensors`. Whole modules saved beside are returned by their
    /// plain names.
    ///
    /// # Errors
    /// Names the file, key or tensor at fault.
    pub fn load(
        folder: &Path,
        config: &DecoderConfig,
        like: &Tensor,
    ) -> Result<(Self, BTreeMap<String, Tensor>)> {
        let mut settings = read_config(&folder.join("adapter_config.json"))?;
        let path = folder.join("adapter_model.safetensors");
        let file = super::load::SafeFile::open(&path)?;
        if let [pattern] = settings.target_modules.as_slice()
            && pattern.contains(['*', '|', '(', '[', '+', '?', '\\', '^', '$'])
        {
            // PEFT reads a text here as a regular expression; the file says which layers it named.
            settings.target_modules = file
                .names()
                .iter()
                .filter_map(|name| name.strip_prefix(PREFIX)?.strip_suffix(".lora_A.weight"))
                .map(str::to_owned)
                .collect();
        }
        let shapes: BTreeMap<String, (usize, usize)> =
            settings.targets(config)?.into_iter().map(|(layer, out, input)| (layer, (out, input))).collect();
        let (mut parts, mut whole) = (BTreeMap::new(), BTreeMap::new());
        for name in file.names() {
            let plain = name.strip_prefix(PREFIX).unwrap_or(&name).to_owned();
            let tensor = file.tensor(&name, None, like.device())?.to_dtype(like.dtype())?;
            match plain.strip_suffix(".lora_A.weight").or_else(|| plain.strip_suffix(".lora_B.weight")) {
                None => drop(whole.insert(plain, tensor)),
                Some(layer) => {
                    let (out, input) = *shapes.get(layer).ok_or_else(|| {
                        Error::file(&path, format!("tensor {name} adapts a layer that the model does not have or the targets do not name"))
                    })?;
                    let r = settings.rank(layer);
                    let is_a = plain.ends_with(".lora_A.weight");
                    let expected = if is_a { vec![r, input] } else { vec![out, r] };
                    if tensor.dims() != expected {
                        return Err(Error::file(
                            &path,
                            format!("tensor {name} is {:?}, the model needs {expected:?}", tensor.dims()),
                        ));
                    }
                    let entry: &mut (Option<Var>, Option<Var>) = parts.entry(layer.to_owned()).or_default();
                    let place = if is_a { &mut entry.0 } else { &mut entry.1 };
                    *place = Some(Var::from_tensor(&tensor)?);
                }
            }
        }
        let mut complete = BTreeMap::new();
        for (layer, pair) in parts {
            match pair {
                (Some(a), Some(b)) => drop(complete.insert(layer, (a, b))),
                _ => {
                    return Err(Error::file(
                        &path,
                        format!("layer {layer} has only one of lora_A and lora_B"),
                    ));
                }
            }
        }
        if let Some(layer) = shapes.keys().find(|layer| !complete.contains_key(*layer)) {
            return Err(Error::file(
                &path,
                format!("tensor {PREFIX}{layer}.lora_A.weight is missing; target_modules name its layer"),
            ));
        }
        Ok((Self { config: settings, parts: complete }, whole))
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
        super::save::write_tensors(&folder.join("adapter_model.safetensors"), &tensors)?;
        let c = &self.config;
        let json = json!({
            "peft_type": "LORA", "task_type": task_type, "base_model_name_or_path": base, "revision": null,
            "inference_mode": true, "r": c.r, "lora_alpha": c.lora_alpha, "lora_dropout": c.lora_dropout, "bias": "none",
            "target_modules": c.target_modules, "fan_in_fan_out": false, "init_lora_weights": true,
            "use_rslora": c.use_rslora, "use_dora": false,
            "modules_to_save": if c.modules_to_save.is_empty() { Value::Null } else { json!(c.modules_to_save) },
            "rank_pattern": c.rank_pattern, "alpha_pattern": c.alpha_pattern, "layers_to_transform": null,
            "layers_pattern": null, "auto_mapping": null, "loftq_config": {}, "layer_replication": null,
            "megatron_config": null, "megatron_core": "megatron.core",
        });
        let mut json = json;
        if c.target_modules == ["all-linear"] {
            // PEFT writes the layers' names; it reads both.
            json["target_modules"] = json!(self.parts.keys().collect::<Vec<_>>());
        }
        let path = folder.join("adapter_config.json");
        super::save::write_text(&path, &format!("{}\n", serde_json::to_string_pretty(&json)?))?;
        let card =
            format!("---\nbase_model: {base}\nlibrary_name: peft\n---\n\nA LoRA adapter written by sipf.\n");
        super::save::write_text(&folder.join("README.md"), &card)
    }
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

fn read_config(path: &Path) -> Result<LoraConfig> {
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
    let targets = match json.get("target_modules") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => return Err(bad("target_modules is missing".into())),
    };
    let mut plain = json.clone();
    plain["target_modules"] = json!(targets);
    for key in ["modules_to_save", "rank_pattern", "alpha_pattern"] {
        if plain.get(key).is_some_and(Value::is_null) {
            plain.as_object_mut().map(|object| object.remove(key));
        }
    }
    serde_json::from_value(plain).map_err(|error| bad(error.to_string()))
}
