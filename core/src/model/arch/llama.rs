//! Llama, Mistral, Qwen2 and Qwen3: RMSNorm, rotary heads, SwiGLU.

use super::Keys;
use crate::model::config::{Biases, BlockKind, DecoderConfig, FeedForward, NormKind};

pub(super) fn parse(keys: &Keys<'_>, family: &str) -> Result<DecoderConfig, String> {
    let (hidden, heads, layers) =
        (keys.count("hidden_size")?, keys.count("num_attention_heads")?, keys.count("num_hidden_layers")?);
    let head_dim = keys.head_dim(hidden, heads)?;
    let attention_bias = keys.flag("attention_bias", false)?;
    let window = keys.count_or_none("sliding_window")?;
    let windows = match family {
        "mistral" => keys.windows(layers, window, |_| true)?,
        "qwen2" | "qwen3" => {
            let on = keys.flag("use_sliding_window", false)?;
            let full_layers = keys.count_or_none("max_window_layers")?.unwrap_or(28);
            keys.windows(layers, window.filter(|_| on), |layer| layer >= full_layers)?
        }
        _ => vec![None; layers],
    };
    Ok(DecoderConfig {
        family: family.into(),
        vocab: keys.count("vocab_size")?,
        hidden,
        layers,
        heads,
        kv_heads: keys.count_or_none("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate: keys.count("intermediate_size")?,
        context: keys.count_or_none("max_position_embeddings")?.unwrap_or(2048),
        norm: NormKind::Rms,
        norm_eps: keys.number("rms_norm_eps", 1e-6)?,
        block: BlockKind::Sequential,
        feed_forward: FeedForward::Gated(keys.activation("hidden_act", "silu")?),
        biases: Biases {
            qkv: family == "qwen2" || attention_bias,
            output: attention_bias && family != "qwen2",
            feed_forward: keys.flag("mlp_bias", false)?,
            head: false,
        },
        qk_norm: family == "qwen3",
        rope_theta: keys.rope_number("rope_theta", 10_000.0)?,
        rope_scaling: keys.rope_scaling()?,
        rotary_dim: head_dim,
        attention_scale: (head_dim as f64).powf(-0.5),
        attention_softcap: None,
        logit_softcap: None,
        windows,
        embedding_scale: 1.0,
        tied: keys.flag("tie_word_embeddings", false)?,
        eos: keys.eos()?,
        source: keys.source.clone(),
    })
}
