//! What every weight is called in a checkpoint, and its shape: the names of the reference implementations.

use super::config::{BlockKind, DecoderConfig, FeedForward, NormKind};

/// The embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// The output layer, which a tied model does not have.
pub const HEAD: &str = "lm_head.weight";

/// The layer that a weight or bias belongs to.
pub fn layer(weight: &str) -> &str {
    weight.strip_suffix(".weight").or_else(|| weight.strip_suffix(".bias")).unwrap_or(weight)
}

/// Names of one block's parts, without `model.layers.N.`.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// The attention's output layer.
    pub output: &'static str,
    /// The gate of a gated feed-forward part.
    pub gate: &'static str,
    /// Its first layer.
    pub up: &'static str,
    /// Its last layer.
    pub down: &'static str,
    /// The final norm, with its `model.`.
    pub final_norm: &'static str,
}

/// The names of a family's parts.
pub fn parts(config: &DecoderConfig) -> Parts {
    match config.feed_forward {
        FeedForward::Gated(_) => Parts {
            output: "self_attn.o_proj",
            gate: "mlp.gate_proj",
            up: "mlp.up_proj",
            down: "mlp.down_proj",
            final_norm: "model.norm",
        },
        FeedForward::Plain(_) => Parts {
            output: "self_attn.dense",
            gate: "",
            up: "mlp.fc1",
            down: "mlp.fc2",
            final_norm: "model.final_layernorm",
        },
    }
}

/// Names of a block's norms, in the order of use.
pub fn norms(config: &DecoderConfig) -> &'static [&'static str] {
    match config.block {
        BlockKind::Sequential => &["input_layernorm", "post_attention_layernorm"],
        BlockKind::Parallel => &["input_layernorm"],
        BlockKind::Sandwich => &[
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ],
    }
}

/// Every weight's name and shape, in a fixed order.
pub fn all(config: &DecoderConfig) -> Vec<(String, Vec<usize>)> {
    let c = config;
    let part = parts(c);
    let mut names = vec![(EMBEDDING.to_owned(), vec![c.vocab, c.hidden])];
    let norm = |names: &mut Vec<(String, Vec<usize>)>, name: String, width: usize| {
        names.push((format!("{name}.weight"), vec![width]));
        if c.norm == NormKind::Layer {
            names.push((format!("{name}.bias"), vec![width]));
        }
    };
    let linear =
        |names: &mut Vec<(String, Vec<usize>)>, name: String, out: usize, input: usize, bias: bool| {
            names.push((format!("{name}.weight"), vec![out, input]));
            if bias {
                names.push((format!("{name}.bias"), vec![out]));
            }
        };
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    for layer in 0..c.layers {
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        for name in self::norms(c) {
            norm(&mut names, at(name), c.hidden);
        }
        linear(&mut names, at("self_attn.q_proj"), q, c.hidden, c.biases.qkv);
        linear(&mut names, at("self_attn.k_proj"), kv, c.hidden, c.biases.qkv);
        linear(&mut names, at("self_attn.v_proj"), kv, c.hidden, c.biases.qkv);
        linear(&mut names, at(part.output), c.hidden, q, c.biases.output);
        if c.qk_norm {
            names.push((at("self_attn.q_norm.weight"), vec![c.head_dim]));
            names.push((at("self_attn.k_norm.weight"), vec![c.head_dim]));
        }
        if !part.gate.is_empty() {
            linear(&mut names, at(part.gate), c.intermediate, c.hidden, c.biases.feed_forward);
        }
        linear(&mut names, at(part.up), c.intermediate, c.hidden, c.biases.feed_forward);
        linear(&mut names, at(part.down), c.hidden, c.intermediate, c.biases.feed_forward);
    }
    norm(&mut names, part.final_norm.to_owned(), c.hidden);
    if !c.tied {
        names.push((HEAD.to_owned(), vec![c.vocab, c.hidden]));
    }
    if c.biases.head {
        names.push(("lm_head.bias".to_owned(), vec![c.vocab]));
    }
    names
}
