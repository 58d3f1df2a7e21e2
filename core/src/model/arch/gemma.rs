//! Gemma and Gemma-2: scaled embeddings, RMSNorm with 1 + w, GeGLU, a tied head; Gemma-2 adds soft caps, four norms and
//! windows on every other layer.

use super::Keys;
use crate::model::config::{Biases, BlockKind, DecoderConfig, FeedForward, NormKind};
use crate::model::kernels::activation::Activation;

pub(super) fn parse(keys: &Keys<'_>, family: &str) -> Result<DecoderConfig, String> {
    let second = family == "gemma2";
    let (hidden, heads, layers) =
        (keys.count("hidden_size")?, keys.count("num_attention_heads")?, keys.count("num_hidden_layers")?);
    let head_dim = keys.count_or_none("head_dim")?.unwrap_or(256);
    // As transformers 5 reads them: Gemma's first files say "gelu" and mean the tanh form.
    let activation = match second {
        true => keys.activation("hidden_activation", "gelu_pytorch_tanh")?,
        false => match keys.activation("hidden_act", "gelu_pytorch_tanh")? {
            Activation::Gelu => Activation::GeluTanh,
            other => other,
        },
    };
    let scale = if second { keys.number("query_pre_attn_scalar", 256.0)? } else { head_dim as f64 };
    let soft_cap = |key: &str, default: f64| -> Result<Option<f64>, String> {
        match (second, keys.source.get(key)) {
            (false, _) => Ok(None),
            (true, Some(value)) if value.is_null() => Ok(None),
            (true, _) => keys.number(key, default).map(Some),
        }
    };
    let window = if second { Some(keys.count_or_none("sliding_window")?.unwrap_or(4096)) } else { None };
    Ok(DecoderConfig {
        family: family.into(),
        vocab: keys.count("vocab_size")?,
        hidden,
        layers,
        heads,
        kv_heads: keys.count_or_none("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate: keys.count("intermediate_size")?,
        context: keys.count_or_none("max_position_embeddings")?.unwrap_or(8192),
        norm: NormKind::RmsUnitOffset,
        norm_eps: keys.number("rms_norm_eps", 1e-6)?,
        block: if second { BlockKind::Sandwich } else { BlockKind::Sequential },
        feed_forward: FeedForward::Gated(activation),
        biases: Biases {
            qkv: keys.flag("attention_bias", false)?,
            output: keys.flag("attention_bias", false)?,
            ..Biases::default()
        },
        qk_norm: false,
        rope_theta: keys.rope_number("rope_theta", 10_000.0)?,
        rope_scaling: keys.rope_scaling()?,
        rotary_dim: head_dim,
        attention_scale: scale.powf(-0.5),
        attention_softcap: soft_cap("attn_logit_softcapping", 50.0)?,
        logit_softcap: soft_cap("final_logit_softcapping", 30.0)?,
        windows: match second {
            true => keys.windows(layers, window, |layer| layer % 2 == 0)?,
            false => vec![None; layers],
        },
        embedding_scale: f64::from((hidden as f32).sqrt()),
        tied: keys.flag("tie_word_embeddings", true)?,
        eos: keys.eos()?,
        source: keys.source.clone(),
    })
}
