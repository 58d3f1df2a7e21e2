//! Every architectural switch of the decoder as a field. Families are presets that fill them in ([`super::arch`]).

use serde_json::Value;

use super::kernels::activation::Activation;

/// The normalisation before, between or after blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `x / rms(x) * w`.
    Rms,
    /// `x / rms(x) * (1 + w)`.
    RmsUnitOffset,
    /// LayerNorm with bias.
    Layer,
}

/// How a block's parts are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Norm, attention, add; norm, feed-forward, add.
    Sequential,
    /// As `Sequential`, each part's result normalised once more before it is added (Gemma-2).
    Sandwich,
    /// One norm; attention and feed-forward of it are both added (Phi).
    Parallel,
}

/// The feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// `down(activation(gate(x)) * up(x))`.
    Gated(Activation),
    /// `fc2(activation(fc1(x)))`.
    Plain(Activation),
}

/// How rotary frequencies are stretched for longer contexts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Low ones divided, high ones kept, a ramp between (Llama 3).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high` are kept.
        high_freq_factor: f64,
        /// The context the model was first trained on.
        original_positions: f64,
    },
}

/// Which linear layers have a bias.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The attention's output.
    pub output: bool,
    /// Feed-forward layers.
    pub feed_forward: bool,
    /// The head.
    pub head: bool,
}

/// Everything the decoder needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// The family, as `model_type` says.
    pub family: String,
    /// Number of tokens.
    pub vocab: usize,
    /// Width of hidden states.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Numbers per head.
    pub head_dim: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// Most positions.
    pub context: usize,
    /// Normalisation.
    pub norm: NormKind,
    /// Its epsilon.
    pub norm_eps: f64,
    /// How a block is put together.
    pub block: BlockKind,
    /// Feed-forward part.
    pub feed_forward: FeedForward,
    /// Biases.
    pub biases: Biases,
    /// RMSNorm of every head's queries and keys before rotation (Qwen3).
    pub qk_norm: bool,
    /// Rotary base.
    pub rope_theta: f64,
    /// Rotary scaling.
    pub rope_scaling: RopeScaling,
    /// Rotated dimensions of a head.
    pub rotary_dim: usize,
    /// What attention scores are multiplied by.
    pub attention_scale: f64,
    /// Soft cap of attention scores.
    pub attention_softcap: Option<f64>,
    /// Soft cap of logits.
    pub logit_softcap: Option<f64>,
    /// Sliding window of each layer; `None`: all positions.
    pub windows: Vec<Option<usize>>,
    /// What embeddings are multiplied by.
    pub embedding_scale: f64,
    /// The head is the embedding.
    pub tied: bool,
    /// End-of-sequence ids that the configuration names.
    pub eos: Vec<u32>,
    /// `config.json` as it was read, unknown keys included, for writing it back.
    pub source: Value,
}

impl DecoderConfig {
    /// Rotary frequencies, one for each rotated pair.
    pub fn frequencies(&self) -> Vec<f64> {
        let dim = self.rotary_dim;
        (0..dim / 2)
            .map(|i| {
                // In f32 as the reference implementations compute it.
                let plain = 1.0 / (self.rope_theta as f32).powf((2 * i) as f32 / dim as f32);
                self.scaled(f64::from(plain))
            })
            .collect()
    }

    fn scaled(&self, frequency: f64) -> f64 {
        match self.rope_scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
                let wavelength = std::f64::consts::TAU / frequency;
                if wavelength > original_positions / low_freq_factor {
                    frequency / factor
                } else if wavelength < original_positions / high_freq_factor {
                    frequency
                } else {
                    let smooth = (original_positions / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }

    /// Gives the head weights of its own, in what is written back too.
    pub(super) fn untie(&mut self) {
        self.tied = false;
        self.source["tie_word_embeddings"] = false.into();
    }

    /// Number of weights, the head counted once where it is tied.
    pub fn parameters(&self) -> usize {
        super::names::all(self).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}
