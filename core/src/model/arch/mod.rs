//! Families as presets: `config.json` to decoder settings. Both spellings load, that of transformers 4 and that of 5.
//!
//! A key that changes the arithmetic in a way the decoder does not know is an error that names it; any other unknown
//! key is kept and ignored.

mod gemma;
mod llama;
mod phi;

use serde_json::{Map, Value};

use super::config::{DecoderConfig, RopeScaling};
use super::kernels::activation::Activation;

/// Reads `config.json`; the message of an error names the key.
///
/// # Errors
/// When the architecture is not supported, a key is missing, or a value would change the arithmetic.
pub fn parse(source: &Value) -> Result<DecoderConfig, String> {
    let keys = Keys { source };
    let family = keys.text("model_type")?;
    if let Some(quantised) = source.get("quantization_config").filter(|value| !value.is_null()) {
        let how = quantised.get("quant_method").and_then(Value::as_str).unwrap_or("unknown method");
        return Err(format!(
            "quantization_config: {how} weights are not supported; use the unquantised checkpoint"
        ));
    }
    check_sizes(&keys)?;
    refuse(source)?;
    let config = match family {
        "llama" | "mistral" | "qwen2" | "qwen3" => llama::parse(&keys, family),
        "gemma" | "gemma2" => gemma::parse(&keys, family),
        "phi" => phi::parse(&keys),
        other => Err(format!(
            "model_type {other:?} is not supported: llama, mistral, qwen2, qwen3, gemma, gemma2, phi"
        )),
    }?;
    check(&config)?;
    Ok(config)
}

/// Sizes that no model has would only exhaust memory.
fn check_sizes(keys: &Keys<'_>) -> Result<(), String> {
    let limits = [
        ("num_hidden_layers", 4096),
        ("num_attention_heads", 1 << 16),
        ("num_key_value_heads", 1 << 16),
        ("head_dim", 1 << 16),
        ("hidden_size", 1 << 20),
        ("intermediate_size", 1 << 24),
        ("vocab_size", 1 << 28),
    ];
    for (key, most) in limits {
        match keys.count_or_none(key)? {
            Some(0) => return Err(format!("{key} must be positive")),
            Some(value) if value > most => return Err(format!("{key} is {value}, which no model has")),
            _ => {}
        }
    }
    Ok(())
}

/// Keys of related architectures that change the arithmetic, with the value at which they do not.
const REFUSED: [(&str, f64); 9] = [
    ("attention_multiplier", f64::NAN),
    ("clip_qkv", f64::NAN),
    ("embedding_multiplier", 1.0),
    ("logit_scale", 1.0),
    ("logits_scaling", 1.0),
    ("num_experts", 0.0),
    ("num_local_experts", 0.0),
    ("residual_multiplier", 1.0),
    ("use_bidirectional_attention", 0.0),
];

fn refuse(source: &Value) -> Result<(), String> {
    for (key, off) in REFUSED {
        let value = source.get(key).unwrap_or(&Value::Null);
        let harmless = match value {
            Value::Null | Value::Bool(false) => true,
            other => other.as_f64() == Some(off),
        };
        if !harmless {
            return Err(format!("{key} is {value}, which this decoder does not compute"));
        }
    }
    Ok(())
}

fn check(c: &DecoderConfig) -> Result<(), String> {
    let positive = [
        ("vocab_size", c.vocab),
        ("hidden_size", c.hidden),
        ("num_hidden_layers", c.layers),
        ("num_attention_heads", c.heads),
        ("num_key_value_heads", c.kv_heads),
        ("head_dim", c.head_dim),
        ("intermediate_size", c.intermediate),
        ("max_position_embeddings", c.context),
    ];
    if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
        return Err(format!("{key} must be positive"));
    }
    if !c.heads.is_multiple_of(c.kv_heads) {
        return Err(format!(
            "num_attention_heads {} is no multiple of num_key_value_heads {}",
            c.heads, c.kv_heads
        ));
    }
    let numbers = [
        ("the norm's epsilon", c.norm_eps),
        ("rope_theta", c.rope_theta),
        ("the scale of attention scores", c.attention_scale),
        ("attn_logit_softcapping", c.attention_softcap.unwrap_or(1.0)),
        ("final_logit_softcapping", c.logit_softcap.unwrap_or(1.0)),
    ];
    if let Some((key, value)) = numbers.into_iter().find(|(_, value)| !value.is_finite() || *value <= 0.0) {
        return Err(format!("{key} is {value}; it must be positive"));
    }
    if c.windows.contains(&Some(0)) {
        return Err("sliding_window is 0".into());
    }
    if c.frequencies().iter().any(|f| !f.is_finite() || *f <= 0.0) {
        return Err("the rotary scaling gives frequencies that are no positive numbers".into());
    }
    if c.rotary_dim == 0 || !c.rotary_dim.is_multiple_of(2) || c.rotary_dim > c.head_dim {
        return Err(format!("{} rotated dimensions of a head of {}", c.rotary_dim, c.head_dim));
    }
    Ok(())
}

/// Typed access to a configuration's keys.
pub(crate) struct Keys<'a> {
    pub(crate) source: &'a Value,
}

impl Keys<'_> {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.source.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, String> {
        self.get(key).and_then(Value::as_str).ok_or_else(|| format!("{key} is missing or not text"))
    }

    pub(crate) fn count(&self, key: &str) -> Result<usize, String> {
        self.count_or_none(key)?.ok_or_else(|| format!("{key} is missing"))
    }

    pub(crate) fn count_or_none(&self, key: &str) -> Result<Option<usize>, String> {
        self.get(key)
            .map(|value| {
                let number = value
                    .as_u64()
                    .or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && *x >= 0.0).map(|x| x as u64));
                number.map(|n| n as usize).ok_or_else(|| format!("{key} is {value}, not a whole number"))
            })
            .transpose()
    }

    /// `head_dim`, or what the heads leave of the width.
    pub(crate) fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize, String> {
        match self.count_or_none("head_dim")? {
            Some(given) => Ok(given),
            None if heads > 0 && hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => Err(format!("hidden_size {hidden} is no multiple of num_attention_heads {heads}")),
        }
    }

    pub(crate) fn number(&self, key: &str, default: f64) -> Result<f64, String> {
        self.get(key).map_or(Ok(default), |value| {
            value.as_f64().ok_or_else(|| format!("{key} is {value}, not a number"))
        })
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        self.get(key).map_or(Ok(default), |value| {
            value.as_bool().ok_or_else(|| format!("{key} is {value}, not true or false"))
        })
    }

    /// The rotary settings and their name: as in transformers 5, `rope_scaling` (transformers 4) where it holds anything,
    /// else `rope_parameters`.
    fn rope(&self) -> Result<Option<(&'static str, &Map<String, Value>)>, String> {
        let mut found = None;
        for name in ["rope_parameters", "rope_scaling"] {
            let Some(value) = self.get(name) else { continue };
            let rope = value.as_object().ok_or_else(|| format!("{name} is {value}, not an object"))?;
            if let Some((key, _)) = rope.iter().find(|(_, value)| value.is_object()) {
                return Err(format!(
                    "{name} differs between layers ({key}), which this decoder does not compute"
                ));
            }
            if !rope.is_empty() {
                found = Some((name, rope));
            }
        }
        Ok(found)
    }

    /// A number from the rotary settings or, where they do not hold it, the top level.
    pub(crate) fn rope_number(&self, key: &str, default: f64) -> Result<f64, String> {
        let nested = self.rope()?.and_then(|(name, rope)| Some((name, rope.get(key)?)));
        match nested.filter(|(_, value)| !value.is_null()) {
            Some((name, value)) => {
                value.as_f64().ok_or_else(|| format!("{name}.{key} is {value}, not a number"))
            }
            None => self.number(key, default),
        }
    }

    pub(crate) fn rope_scaling(&self) -> Result<RopeScaling, String> {
        let Some((name, rope)) = self.rope()? else { return Ok(RopeScaling::None) };
        let given = ["rope_type", "type"]
            .into_iter()
            .find_map(|key| Some((key, rope.get(key).filter(|value| !value.is_null())?)));
        let kind = match given {
            None => "default",
            Some((key, value)) => {
                value.as_str().ok_or_else(|| format!("{name}.{key} is {value}, not text"))?
            }
        };
        let number = |key: &str| {
            rope.get(key)
                .and_then(Value::as_f64)
                .ok_or_else(|| format!("{name}.{key} is missing or not a number"))
        };
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: number("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_positions: number("original_max_position_embeddings")?,
            }),
            other => Err(format!("{name}: rope type {other:?} is not supported: default, linear, llama3")),
        }
    }

    pub(crate) fn activation(&self, key: &str, default: &str) -> Result<Activation, String> {
        let name = match self.get(key) {
            None => default,
            Some(value) => value.as_str().ok_or_else(|| format!("{key} is {value}, not text"))?,
        };
        match name {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            other => Err(format!("{key} {other:?} is not supported")),
        }
    }

    /// Windows of the layers: `layer_types` where it is given, otherwise what `fallback` says of a layer.
    pub(crate) fn windows(
        &self,
        layers: usize,
        window: Option<usize>,
        fallback: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<usize>>, String> {
        let Some(types) = self.get("layer_types") else {
            return Ok((0..layers).map(|layer| window.filter(|_| fallback(layer))).collect());
        };
        let types = types.as_array().ok_or_else(|| format!("layer_types is {types}, not a list"))?;
        if types.len() != layers {
            return Err(format!("layer_types has {} entries for {layers} layers", types.len()));
        }
        types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(None),
                Some("sliding_attention") => window
                    .map(Some)
                    .ok_or_else(|| "layer_types asks for a sliding_window, which is missing".into()),
                _ => Err(format!("layer_types: {kind} is not supported")),
            })
            .collect()
    }

    pub(crate) fn eos(&self) -> Result<Vec<u32>, String> {
        let id = |value: &Value| {
            value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                format!("eos_token_id holds {value}; it is a token id, a list of them, or null")
            })
        };
        match self.get("eos_token_id") {
            Some(Value::Array(list)) => list.iter().map(id).collect(),
            Some(value) => Ok(vec![id(value)?]),
            None => Ok(Vec::new()),
        }
    }
}
