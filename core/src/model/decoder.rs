//! The one decoder: embeddings, blocks, final norm, head. Trained, scored and sampled from through the same code.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use sipf_plugin::random::Stream;

use super::config::{BlockKind, DecoderConfig, FeedForward};
use super::kernels::rotary::Angles;
use super::layer::{Linear, Norm};
use super::load::Checkpoint;
use super::lora::{Adapter, LoraConfig};
use super::weights::Weights;
use super::{Attention, AttentionSpec, names, ops, save};
use crate::error::{AtPath, Error, Result};
use crate::stream::StreamName;

/// What training changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Trainable {
    /// Nothing.
    #[default]
    Frozen,
    /// Every weight.
    Full,
    /// A low-rank adapter over frozen weights.
    Lora(LoraConfig),
}

/// How a model is put on a device.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where its tensors live.
    pub device: Device,
    /// Their type; on the CPU f32.
    pub dtype: DType,
    /// What training changes.
    pub trainable: Trainable,
    /// Seed of fresh weights and adapters.
    pub seed: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, trainable: Trainable::Frozen, seed: 42 }
    }
}

/// How one pass is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pass {
    /// Adapter dropout, keyed by the optimizer step; `None`: no dropout.
    pub dropout: Option<u64>,
    /// Compute blocks again in the backward pass instead of keeping their activations.
    pub checkpointing: bool,
}

/// What turns hidden states into logits.
#[derive(Debug, Clone)]
pub struct Head {
    /// `[vocab, hidden]`.
    pub weight: Tensor,
    /// `[vocab]`.
    pub bias: Option<Tensor>,
    /// Logits become `cap * tanh(logit / cap)`.
    pub softcap: Option<f64>,
    /// Whether the weight gets a gradient.
    pub trainable: bool,
}

#[derive(Debug, Clone)]
struct Block {
    norms: Vec<Norm>,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    head_norms: Option<(Norm, Norm)>,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    spec: AttentionSpec,
}

struct Parts {
    config: DecoderConfig,
    weights: Weights,
    adapter: Option<Adapter>,
    embedding: Tensor,
    blocks: Vec<Block>,
    final_norm: Norm,
    head: Option<Linear>,
    frequencies: Vec<f64>,
    device: Device,
    inference: bool,
}

/// A causal decoder. Cheap to clone.
#[derive(Clone)]
pub struct Decoder(Arc<Parts>);

impl Decoder {
    /// Loads a model folder.
    ///
    /// # Errors
    /// Names the file, key or tensor at fault.
    pub fn load(folder: &Path, options: &LoadOptions) -> Result<Self> {
        Self::of_checkpoint(&Checkpoint::open(folder)?, options)
    }

    /// Loads an opened model folder.
    ///
    /// # Errors
    /// Names the file and tensor at fault.
    pub fn of_checkpoint(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        let mut weights = Weights::default();
        for (name, shape) in names::all(checkpoint.config()) {
            let tensor = checkpoint
                .tensor(&name, Some(&shape), &Device::Cpu)?
                .to_dtype(options.dtype)?
                .to_device(&options.device)?;
            weights.insert(&name, tensor, is_trained(&options.trainable, &name))?;
        }
        Self::with_new_adapter(checkpoint.config().clone(), weights, options)
    }

    /// Fresh weights: normal(1 / sqrt(fan in)), projections into the residual stream divided by sqrt(2 layers),
    /// embedding and head normal(.02), norms 1 (0 where they are offset by one), biases 0.
    ///
    /// # Errors
    /// What the device says.
    pub fn init(config: DecoderConfig, options: &LoadOptions, seed: u64) -> Result<Self> {
        use super::config::NormKind;
        let mut weights = Weights::default();
        let part = names::parts(&config);
        for (name, shape) in names::all(&config) {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = if shape.len() == 2 {
                let residual = name.ends_with(&format!("{}.weight", part.output))
                    || name.ends_with(&format!("{}.weight", part.down));
                let outer = name == "model.embed_tokens.weight" || name == "lm_head.weight";
                let deviation = match (outer, residual) {
                    (true, _) => 0.02,
                    (false, true) => 1.0 / (shape[1] as f32 * 2.0 * config.layers as f32).sqrt(),
                    _ => 1.0 / (shape[1] as f32).sqrt(),
                };
                let key = StreamName { seed, stage: "init", problem: &name, ..StreamName::default() }.key();
                let mut stream = Stream::new(key);
                (0..count).map(|_| stream.normal() * deviation).collect()
            } else {
                let one = name.ends_with("norm.weight") && config.norm != NormKind::RmsUnitOffset;
                vec![f32::from(one); count]
            };
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?
                .to_dtype(options.dtype)?
                .to_device(&options.device)?;
            weights.insert(&name, tensor, is_trained(&options.trainable, &name))?;
        }
        Self::with_new_adapter(config, weights, options)
    }

    fn with_new_adapter(config: DecoderConfig, weights: Weights, options: &LoadOptions) -> Result<Self> {
        let adapter = match &options.trainable {
            Trainable::Lora(lora) => {
                Some(lora.init(&config, &weights.get("model.embed_tokens.weight")?, options.seed)?)
            }
            _ => None,
        };
        Self::build(config, weights, adapter, options.device.clone(), false)
    }

    fn build(
        config: DecoderConfig,
        weights: Weights,
        adapter: Option<Adapter>,
        device: Device,
        inference: bool,
    ) -> Result<Self> {
        let part = names::parts(&config);
        let linear = |name: &str| {
            let lora = adapter.as_ref().and_then(|adapter| adapter.part(name));
            Linear::new(&weights, name, lora, inference)
        };
        let norm = |name: &str| Norm::new(&weights, name, config.norm, config.norm_eps);
        let blocks = (0..config.layers)
            .map(|layer| {
                let at = |name: &str| format!("model.layers.{layer}.{name}");
                Ok(Block {
                    norms: names::norms(&config).iter().map(|name| norm(&at(name))).collect::<Result<_>>()?,
                    query: linear(&at("self_attn.q_proj"))?,
                    key: linear(&at("self_attn.k_proj"))?,
                    value: linear(&at("self_attn.v_proj"))?,
                    output: linear(&at(part.output))?,
                    head_norms: match config.qk_norm {
                        true => Some((norm(&at("self_attn.q_norm"))?, norm(&at("self_attn.k_norm"))?)),
                        false => None,
                    },
                    gate: (!part.gate.is_empty()).then(|| linear(&at(part.gate))).transpose()?,
                    up: linear(&at(part.up))?,
                    down: linear(&at(part.down))?,
                    spec: AttentionSpec {
                        heads: config.heads,
                        kv_heads: config.kv_heads,
                        head_dim: config.head_dim,
                        scale: config.attention_scale as f32,
                        window: config.windows[layer],
                        softcap: config.attention_softcap.map(|cap| cap as f32),
                    },
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let embedding = weights.get("model.embed_tokens.weight")?;
        let head = match inference {
            // Packed for the kernels; the tied head is the embedding under another name.
            true if config.tied => {
                let mut tied = Weights::default();
                tied.insert("lm_head.weight", embedding.clone(), false)?;
                Some(Linear::new(&tied, "lm_head", None, true)?)
            }
            true => Some(Linear::new(&weights, "lm_head", None, true)?),
            false => None,
        };
        let final_norm = norm(part.final_norm)?;
        let frequencies = config.frequencies();
        Ok(Self(Arc::new(Parts {
            config,
            weights,
            adapter,
            embedding,
            blocks,
            final_norm,
            head,
            frequencies,
            device,
            inference,
        })))
    }

    /// Its settings.
    pub fn config(&self) -> &DecoderConfig {
        &self.0.config
    }

    /// Where its tensors live.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The type of its weights.
    pub fn dtype(&self) -> DType {
        self.0.embedding.dtype()
    }

    /// Its weights by name.
    pub fn weights(&self) -> &Weights {
        &self.0.weights
    }

    /// Its adapter.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.0.adapter.as_ref()
    }

    /// What training changes, by the names of Hugging Face and PEFT, in a fixed order.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        let mut all = self.0.weights.variables();
        all.extend(self.0.adapter.iter().flat_map(Adapter::variables));
        all
    }

    /// Hidden states `[N, hidden]` after the final norm of N tokens at these positions. Differentiable unless the
    /// decoder is in inference form.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, or the device fails.
    pub fn hidden(
        &self,
        ids: &[u32],
        positions: &[u32],
        attention: Attention<'_>,
        pass: &Pass,
    ) -> Result<Tensor> {
        let parts = &*self.0;
        check_input(ids, positions, &attention)?;
        if ids.is_empty() {
            return Ok(Tensor::zeros((0, parts.config.hidden), self.dtype(), &parts.device)?);
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= parts.config.vocab) {
            return Err(Error::unusable(format!(
                "token id {id} is outside the vocabulary of {}",
                parts.config.vocab
            )));
        }
        let index = Tensor::from_slice(ids, ids.len(), &parts.device)?;
        let mut x = parts.embedding.index_select(&index, 0)?;
        if parts.config.embedding_scale != 1.0 {
            x = (x * parts.config.embedding_scale)?;
        }
        let angles = Arc::new(self.angles(positions));
        let mut attention = attention;
        for (layer, block) in parts.blocks.iter().enumerate() {
            x = match &mut attention {
                Attention::Packed(packed) if pass.checkpointing => {
                    super::remat::block(self, layer, &x, packed, &angles, pass)?
                }
                attention => self.block(layer, block, &x, attention, &angles, pass)?,
            };
        }
        parts.final_norm.forward(&x)
    }

    fn angles(&self, positions: &[u32]) -> Angles {
        let half = self.0.frequencies.len();
        let mut angles = Angles {
            cos: Vec::with_capacity(positions.len() * half),
            sin: Vec::with_capacity(positions.len() * half),
            half,
        };
        for position in positions {
            for frequency in &self.0.frequencies {
                // The product in f32, as the reference implementations form it; its sine in f64.
                let angle = f64::from((f64::from(*position) as f32) * (*frequency as f32));
                angles.cos.push(angle.cos() as f32);
                angles.sin.push(angle.sin() as f32);
            }
        }
        angles
    }

    /// One block over whole sequences: for computing it again.
    pub(super) fn packed_block(
        &self,
        layer: usize,
        x: &Tensor,
        packed: &super::Packed,
        angles: &Arc<Angles>,
        pass: &Pass,
    ) -> Result<Tensor> {
        self.block(layer, &self.0.blocks[layer], x, &mut Attention::Packed(packed), angles, pass)
    }

    fn block(
        &self,
        layer: usize,
        block: &Block,
        x: &Tensor,
        attention: &mut Attention<'_>,
        angles: &Arc<Angles>,
        pass: &Pass,
    ) -> Result<Tensor> {
        let normed = block.norms[0].forward(x)?;
        let attended = self.attended(layer, block, &normed, attention, angles, pass)?;
        match self.0.config.block {
            BlockKind::Parallel => {
                let fed = self.fed(block, &normed, pass)?;
                Ok(((attended + fed)? + x)?)
            }
            BlockKind::Sequential => {
                let x = (x + attended)?;
                let fed = self.fed(block, &block.norms[1].forward(&x)?, pass)?;
                Ok((x + fed)?)
            }
            BlockKind::Sandwich => {
                let x = (x + block.norms[1].forward(&attended)?)?;
                let fed = self.fed(block, &block.norms[2].forward(&x)?, pass)?;
                Ok((x + block.norms[3].forward(&fed)?)?)
            }
        }
    }

    fn attended(
        &self,
        layer: usize,
        block: &Block,
        x: &Tensor,
        attention: &mut Attention<'_>,
        angles: &Arc<Angles>,
        pass: &Pass,
    ) -> Result<Tensor> {
        let (mut q, mut k) = (block.query.forward(x, pass)?, block.key.forward(x, pass)?);
        let v = block.value.forward(x, pass)?;
        let d = block.spec.head_dim;
        if let Some((query_norm, key_norm)) = &block.head_norms {
            let tokens = q.dim(0)?;
            let per_head = |x: &Tensor, norm: &Norm| -> Result<Tensor> {
                let width = x.dim(1)?;
                Ok(norm.forward(&x.reshape((tokens * width / d, d))?)?.reshape((tokens, width))?)
            };
            (q, k) = (per_head(&q, query_norm)?, per_head(&k, key_norm)?);
        }
        let (q, k) = (ops::rotary(&q, d, angles)?, ops::rotary(&k, d, angles)?);
        let attended = match attention {
            Attention::Packed(packed) => ops::attend(&q, &k, &v, packed, &block.spec)?,
            Attention::Cached(cache) => cache.attend(layer, &q, &k, &v, &block.spec)?,
        };
        block.output.forward(&attended, pass)
    }

    fn fed(&self, block: &Block, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let up = block.up.forward(x, pass)?;
        let inner = match (self.0.config.feed_forward, &block.gate) {
            (FeedForward::Gated(activation), Some(gate)) => {
                ops::gated(&gate.forward(x, pass)?, &up, activation)?
            }
            (FeedForward::Gated(activation) | FeedForward::Plain(activation), _) => {
                ops::activate(&up, activation)?
            }
        };
        block.down.forward(&inner, pass)
    }

    /// What turns hidden states into logits: for chunked losses.
    pub fn head(&self) -> Head {
        let parts = &*self.0;
        let name = if parts.config.tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
        Head {
            weight: parts.weights.find(name).unwrap_or_else(|| parts.embedding.clone()),
            bias: parts.weights.find("lm_head.bias"),
            softcap: parts.config.logit_softcap,
            trainable: parts.weights.is_trainable(name),
        }
    }

    /// Logits `[M, vocab]` in f32 of hidden states `[M, hidden]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = match &self.0.head {
            Some(head) => head.forward(hidden, &Pass::default())?,
            None => {
                let head = self.head();
                let logits = ops::linear(hidden, &head.weight, head.trainable)?;
                match &head.bias {
                    Some(bias) => ops::add_bias(&logits, bias, self.0.weights.is_trainable("lm_head.bias"))?,
                    None => logits,
                }
            }
        };
        let logits = logits.to_dtype(DType::F32)?;
        Ok(match self.0.config.logit_softcap {
            Some(cap) => ((logits / cap)?.tanh()? * cap)?,
            None => logits,
        })
    }

    /// Loads PEFT's files over this model; `trainable` makes the adapter's weights variables of training.
    ///
    /// # Errors
    /// Names the file, key or tensor at fault.
    pub fn with_adapter(&self, folder: &Path) -> Result<Self> {
        let parts = &*self.0;
        let (adapter, mut whole) = Adapter::load(folder, &parts.config, &parts.embedding)?;
        let (mut config, mut weights) = (parts.config.clone(), parts.weights.clone());
        if config.tied {
            // PEFT gives each of the two that it trains a copy of its own; the other keeps what the base has.
            let lora = &adapter.config;
            let apart = lora.saves(names::EMBEDDING) && !lora.ensure_weight_tying;
            let head = whole.remove(names::HEAD);
            let trained = head.is_some();
            let embedding = whole.get(names::EMBEDDING).unwrap_or(&parts.embedding);
            if let Some(head) = head.or_else(|| apart.then(|| parts.embedding.clone()))
                && !same(&head, embedding)?
            {
                config.untie();
                weights.insert(names::HEAD, head, trained)?;
            }
        }
        for (name, tensor) in whole {
            weights.insert(&name, tensor, true)?;
        }
        Self::build(config, weights, Some(adapter), parts.device.clone(), parts.inference)
    }

    /// All weights with the adapter added in: `W + scaling * B A`, in f32 and back.
    ///
    /// # Errors
    /// What the device says.
    pub fn merged(&self) -> Result<BTreeMap<String, Tensor>> {
        self.0
            .weights
            .iter()
            .map(|(name, tensor)| {
                let layer = name.strip_suffix(".weight").unwrap_or(name);
                let delta =
                    self.0.adapter.as_ref().map(|adapter| adapter.delta(layer)).transpose()?.flatten();
                let merged = match delta {
                    Some(delta) => (tensor.to_dtype(DType::F32)? + delta)?.to_dtype(tensor.dtype())?,
                    None => tensor.copy()?,
                };
                Ok((name.clone(), merged.detach()))
            })
            .collect()
    }

    /// A copy for sampling and scoring: adapter merged, nothing trainable, weights packed for the kernels. Later training
    /// of this decoder does not change it.
    ///
    /// # Errors
    /// What the device says.
    pub fn frozen_for_inference(&self) -> Result<Self> {
        let mut weights = Weights::default();
        for (name, tensor) in self.merged()? {
            weights.insert(&name, tensor, false)?;
        }
        Self::build(self.0.config.clone(), weights, None, self.0.device.clone(), true)
    }

    /// Writes a full checkpoint: merged weights and `config.json`. The tokenizer's files are the caller's
    /// ([`save::copy_tokenizer`]).
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.save_as(folder, |_| None)
    }

    /// As [`Self::save`], each weight in the type that `dtype` gives for its name.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn save_as(&self, folder: &Path, dtype: impl Fn(&str) -> Option<DType>) -> Result<()> {
        std::fs::create_dir_all(folder).at(folder)?;
        let mut tensors = self.merged()?;
        for (name, tensor) in &mut tensors {
            if let Some(dtype) = dtype(name) {
                *tensor = tensor.to_dtype(dtype)?;
            }
        }
        save::write_checkpoint(folder, &tensors)?;
        let mut config = self.0.config.source.clone();
        let written = tensors.values().next().map_or(self.dtype(), Tensor::dtype);
        for key in ["dtype", "torch_dtype"] {
            if config.get(key).is_some_and(serde_json::Value::is_string) {
                config[key] = save::dtype_name(written).into();
            }
        }
        let config = serde_json::to_string_pretty(&config)?;
        save::write_text(&folder.join("config.json"), &format!("{config}\n"))
    }

    /// Writes PEFT's files.
    ///
    /// # Errors
    /// When there is no adapter, or something cannot be written.
    pub fn save_adapter(&self, folder: &Path, base: &str) -> Result<()> {
        let adapter = self.adapter().ok_or_else(|| Error::unusable("the model has no adapter to save"))?;
        let mut adapter = adapter.clone();
        let mut whole: BTreeMap<String, Tensor> =
            self.0.weights.variables().into_iter().map(|(name, v)| (name, v.as_tensor().clone())).collect();
        // A tied head was trained with its embedding; PEFT keeps the two together where it is told so.
        if self.0.config.tied
            && let Some(embedding) = whole.get(names::EMBEDDING).cloned()
        {
            whole.insert(names::HEAD.to_owned(), embedding);
            adapter.config.ensure_weight_tying = true;
        }
        adapter.save(folder, base, "CAUSAL_LM", &whole)
    }
}

/// Whether two tensors hold the same numbers.
fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    Ok(a.dims() == b.dims() && a.ne(b)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()? == 0.0)
}

/// Ids, positions and packed lengths have to name the same tokens.
fn check_input(ids: &[u32], positions: &[u32], attention: &Attention<'_>) -> Result<()> {
    if ids.len() != positions.len() {
        return Err(Error::unusable(format!("{} ids with {} positions", ids.len(), positions.len())));
    }
    let Attention::Packed(packed) = attention else { return Ok(()) };
    let ordered = packed.starts.first() == Some(&0) && packed.starts.is_sorted();
    match ordered && packed.tokens() == ids.len() {
        true => Ok(()),
        false => Err(Error::unusable(format!("{} ids packed as {:?}", ids.len(), packed.starts))),
    }
}

fn is_trained(trainable: &Trainable, name: &str) -> bool {
    match trainable {
        Trainable::Frozen => false,
        Trainable::Full => true,
        Trainable::Lora(lora) => lora.saves(name),
    }
}
