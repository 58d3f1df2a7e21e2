//! Low-rank adapters in PEFT's form: `W x + scaling * B(A(dropout(x)))`, its names, its files.

mod pattern;
mod peft;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Serialize};
use sipf_plugin::random::Stream;

use super::config::DecoderConfig;
use super::names;
use crate::error::{Error, Result};
use crate::stream::StreamName;
use pattern::Pattern;
pub use pattern::Patterns;

/// The target that stands for every linear layer but the output layer.
const ALL_LINEAR: &str = "all-linear";

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
    /// Ranks of single layers.
    pub rank_pattern: Patterns<usize>,
    /// Alphas of single layers.
    pub alpha_pattern: Patterns<f64>,
    /// Whether the head of a tied model stays its embedding where `modules_to_save` name either; else each gets a copy
    /// of its own.
    pub ensure_weight_tying: bool,
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
            rank_pattern: Patterns::default(),
            alpha_pattern: Patterns::default(),
            ensure_weight_tying: false,
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

/// Whether a weight lies in one of these modules; PEFT asks whether a module's name ends so, at a dot or not.
fn lies_in(weight: &str, modules: &[String]) -> bool {
    let layer = names::layer(weight);
    let around = layer.match_indices('.').map(|(dot, _)| &layer[..dot]).chain([layer]);
    around.into_iter().any(|module| modules.iter().any(|end| module.ends_with(end.as_str())))
}

/// Whether a layer is the embedding or the head.
fn is_outer(layer: &str) -> bool {
    [names::EMBEDDING, names::HEAD].iter().any(|weight| names::layer(weight) == layer)
}

/// What a target may name: the linear layers, the embedding and the head, with the shapes of their weights.
fn modules(config: &DecoderConfig) -> Vec<(String, Vec<usize>)> {
    let mut found: Vec<_> = names::all(config)
        .into_iter()
        .filter(|(name, shape)| name.ends_with(".weight") && shape.len() == 2)
        .map(|(name, shape)| (names::layer(&name).to_owned(), shape))
        .collect();
    if config.tied {
        found.push((names::layer(names::HEAD).to_owned(), vec![config.vocab, config.hidden]));
    }
    found
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

    /// The linear layers that get an adapter: name, outputs, inputs. A layer that is trained whole gets none.
    ///
    /// # Errors
    /// When no layer matches, or the embedding or the head does.
    pub fn targets(&self, config: &DecoderConfig) -> Result<Vec<(String, usize, usize)>> {
        let all = self.target_modules.iter().any(|target| target == ALL_LINEAR);
        let whole = self.modules_to_save.iter().map(|module| Pattern::part(module));
        let whole: Vec<Pattern> = whole
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| Error::unusable(format!("the adapter's modules_to_save: {error}")))?;
        let mut found = Vec::new();
        for (name, shape) in modules(config) {
            let outer = is_outer(&name);
            let named = self.target_modules.iter().any(|target| ends_in(&name, target));
            if !named && (outer || !all) {
                continue;
            }
            let mut kept = false;
            for pattern in &whole {
                kept |= pattern.matches(&name)?;
            }
            match (kept, outer) {
                (true, _) => {}
                (false, true) => {
                    return Err(Error::unusable(format!(
                        "the adapter's targets name {name}: adapters of the embedding and of the output layer are \
                        not supported; train it whole (modules_to_save) or leave it out"
                    )));
                }
                (false, false) => found.push((name, shape[0], shape[1])),
            }
        }
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
        lies_in(weight, &self.modules_to_save)
    }

    fn rank(&self, layer: &str) -> Result<usize> {
        Ok(self.rank_pattern.find(layer)?.unwrap_or(self.r))
    }

    /// What a layer's adapter is multiplied by.
    fn scaling(&self, layer: &str) -> Result<f64> {
        let alpha = self.alpha_pattern.find(layer)?.unwrap_or(self.lora_alpha);
        let r = self.rank(layer)? as f64;
        Ok(if self.use_rslora { alpha / r.sqrt() } else { alpha / r })
    }

    /// Fresh adapters: A uniform as kaiming with a = sqrt 5, B zero.
    ///
    /// # Errors
    /// When no layer matches, or `modules_to_save` name what the model does not have.
    pub fn init(&self, config: &DecoderConfig, like: &Tensor, seed: u64) -> Result<Adapter> {
        let weights = names::all(config);
        for module in &self.modules_to_save {
            if !weights.iter().any(|(weight, _)| lies_in(weight, std::slice::from_ref(module))) {
                let tied = match config.tied && names::layer(names::HEAD).ends_with(module.as_str()) {
                    true => "; its output layer is its embedding: name embed_tokens",
                    false => "",
                };
                return Err(Error::unusable(format!(
                    "modules_to_save name {module}, which this {} model does not have{tied}",
                    config.family
                )));
            }
        }
        let mut adapter = Adapter { config: self.clone(), parts: BTreeMap::new() };
        for (layer, outputs, inputs) in self.targets(config)? {
            let r = self.rank(&layer)?;
            let name = StreamName { seed, stage: "lora", problem: &layer, ..StreamName::default() };
            let mut stream = Stream::new(name.key());
            let bound = 1.0 / (inputs as f32).sqrt();
            let a: Vec<f32> = (0..r * inputs).map(|_| (2.0 * stream.next_unit() - 1.0) * bound).collect();
            let a = Tensor::from_vec(a, (r, inputs), like.device())?.to_dtype(like.dtype())?;
            let b = Tensor::zeros((outputs, r), like.dtype(), like.device())?;
            let scaling = self.scaling(&layer)?;
            adapter.parts.insert(layer, Part { a: Var::from_tensor(&a)?, b: Var::from_tensor(&b)?, scaling });
        }
        Ok(adapter)
    }
}

/// The weights of one layer's adapter.
#[derive(Debug, Clone)]
pub struct Part {
    /// A, `[r, in]`.
    pub a: Var,
    /// B, `[out, r]`.
    pub b: Var,
    /// What their product is multiplied by.
    pub scaling: f64,
}

/// An adapter's weights by layer.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Its settings.
    pub config: LoraConfig,
    /// Layer name to weights.
    pub parts: BTreeMap<String, Part>,
}

impl Adapter {
    /// One layer's adapter.
    pub fn part(&self, layer: &str) -> Option<LoraPart> {
        let part = self.parts.get(layer)?;
        Some(LoraPart {
            a: part.a.as_tensor().clone(),
            b: part.b.as_tensor().clone(),
            scaling: part.scaling,
            dropout: self.config.lora_dropout,
        })
    }

    /// What is added to a layer's weight: `scaling * B @ A`, in f32.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn delta(&self, layer: &str) -> Result<Option<Tensor>> {
        let Some(part) = self.parts.get(layer) else { return Ok(None) };
        let (a, b) = (part.a.as_tensor().to_dtype(DType::F32)?, part.b.as_tensor().to_dtype(DType::F32)?);
        Ok(Some((b.matmul(&a)? * part.scaling)?))
    }
}
