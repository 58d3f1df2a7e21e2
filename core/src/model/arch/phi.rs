//! Phi-1, Phi-1.5 and Phi-2: LayerNorm, attention and feed-forward side by side, partly rotated heads, biases everywhere.

use super::Keys;
use crate::model::config::{Biases, BlockKind, DecoderConfig, FeedForward, NormKind};

pub(super) fn parse(keys: &Keys<'_>) -> Result<DecoderConfig, String> {
    let (hidden, heads, layers) =
        (keys.count("hidden_size")?, keys.count("num_attention_heads")?, keys.count("num_hidden_layers")?);
    if keys.flag("qk_layernorm", false)? {
        return Err("qk_layernorm true is not supported".into());
    }
    let head_dim = keys.head_dim(hidden, heads)?;
    let share = keys.rope_number("partial_rotary_factor", 0.5)?;
    Ok(DecoderConfig {
        family: "phi".into(),
        vocab: keys.count("vocab_size")?,
        hidden,
        layers,
        heads,
        kv_heads: keys.count_or_none("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate: keys.count("intermediate_size")?,
        context: keys.count_or_none("max_position_embeddings")?.unwrap_or(2048),
        norm: NormKind::Layer,
        norm_eps: keys.number("layer_norm_eps", 1e-5)?,
        block: BlockKind::Parallel,
        feed_forward: FeedForward::Plain(keys.activation("hidden_act", "gelu_new")?),
        biases: Biases { qkv: true, output: true, feed_forward: true, head: true },
        qk_norm: false,
        rope_theta: keys.rope_number("rope_theta", 10_000.0)?,
        rope_scaling: keys.rope_scaling()?,
        rotary_dim: (share * head_dim as f64) as usize,
        attention_scale: (head_dim as f64).powf(-0.5),
        attention_softcap: None,
        logit_softcap: None,
        windows: vec![None; layers],
        embedding_scale: 1.0,
        tied: keys.flag("tie_word_embeddings", false)?,
        eos: keys.eos()?,
        source: keys.source.clone(),
    })
}
