//! The bundled tiny family: a policy and a stronger sibling with one tokenizer, small enough to train on two cores.
//!
//! Nothing here knows a task. `assets/tiny` holds the tokenizer with the script that made it, and the weights of
//! `tiny-strong`, which `docs/recipes/tiny-strong.md` remakes.

use std::path::Path;

use serde_json::{Value, json};

use super::{Decoder, DecoderConfig, LoadOptions, Tokenizer, arch, save};
use crate::error::{AtPath, Error, Result};

const TOKENIZER: &str = include_str!("../../assets/tiny/tokenizer.json");
const TOKENIZER_CONFIG: &str = include_str!("../../assets/tiny/tokenizer_config.json");
const STRONG: &[u8] = include_bytes!("../../assets/tiny/model.safetensors");

/// Most positions.
const CONTEXT: usize = 512;

/// A member of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiny {
    /// `tiny`: 0.43M weights, seeded and untrained.
    Policy,
    /// `tiny-strong-init`: the architecture of `tiny-strong`, seeded and untrained.
    StrongInit,
    /// `tiny-strong`: 1.1M weights, trained.
    Strong,
}

impl Tiny {
    /// The member of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "tiny" => Some(Self::Policy),
            "tiny-strong-init" => Some(Self::StrongInit),
            "tiny-strong" => Some(Self::Strong),
            _ => None,
        }
    }

    /// Its `config.json`.
    pub fn config_json(self) -> Value {
        let (hidden, layers, intermediate) = match self {
            Self::Policy => (96, 3, 256),
            Self::StrongInit | Self::Strong => (144, 4, 384),
        };
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": 640,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": hidden / 4,
            "intermediate_size": intermediate,
            "max_position_embeddings": CONTEXT,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_parameters": { "rope_type": "default", "rope_theta": 10000.0 },
            "attention_bias": false,
            "mlp_bias": false,
            "tie_word_embeddings": false,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "dtype": "float32",
        })
    }

    /// Its settings.
    ///
    /// # Errors
    /// Never with the bundled configuration.
    pub fn config(self) -> Result<DecoderConfig> {
        arch::parse(&self.config_json()).map_err(Error::unusable)
    }

    /// Writes it as a model folder; `seed` draws the weights of an untrained member.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(self, folder: &Path, seed: u64) -> Result<()> {
        std::fs::create_dir_all(folder).at(folder)?;
        match self {
            Self::Strong => {
                save::write_bytes(&folder.join("model.safetensors"), STRONG)?;
                let config = serde_json::to_string_pretty(&self.config_json())?;
                save::write_text(&folder.join("config.json"), &format!("{config}\n"))?;
            }
            _ => Decoder::init(self.config()?, &LoadOptions::default(), seed)?.save(folder)?,
        }
        save::write_text(&folder.join("tokenizer.json"), TOKENIZER)?;
        save::write_text(&folder.join("tokenizer_config.json"), TOKENIZER_CONFIG)
    }
}

/// The family's tokenizer.
///
/// # Errors
/// Never with the bundled file.
pub fn tokenizer() -> Result<Tokenizer> {
    let inner = tokenizers::Tokenizer::from_bytes(TOKENIZER.as_bytes())
        .map_err(|error| Error::unusable(format!("the bundled tokenizer: {error}")))?;
    Ok(Tokenizer::new(inner, Some(1), Some(2), Some(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_as_told() {
        let count = |member: Tiny| member.config().expect("a configuration").parameters();
        assert_eq!(count(Tiny::Policy), 427_680);
        assert_eq!(count(Tiny::Strong), 1_098_000);
        assert!(STRONG.len() < 5_000_000, "{} bytes", STRONG.len());
    }

    #[test]
    fn lines_stand_alone_and_numbers_below_a_hundred_are_one_token() {
        let tokenizer = tokenizer().expect("a tokenizer");
        for number in 0..100 {
            assert_eq!(tokenizer.encode(&number.to_string(), false).expect("ids").len(), 1, "{number}");
        }
        let line = tokenizer.encode("\n", false).expect("ids");
        assert_eq!(line.len(), 1);
        let ids = tokenizer.encode("a.\n\n12 b\n", false).expect("ids");
        assert_eq!(ids.iter().filter(|id| **id == line[0]).count(), 3);
        assert_eq!(tokenizer.encode("a", true).expect("ids")[0], 1, "a text begins with <s>");
    }

    #[test]
    fn a_member_is_written_as_a_whole_model_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        for member in [Tiny::Policy, Tiny::Strong] {
            let folder = folder.path().join(format!("{member:?}"));
            member.write(&folder, 7).expect("written");
            let decoder = Decoder::load(&folder, &LoadOptions::default()).expect("a model");
            assert_eq!(decoder.config().vocab, Tokenizer::load(&folder).expect("a tokenizer").vocab_size());
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let tokenizer = tokenizer().expect("a tokenizer");
            let ids = tokenizer.encode(&text, false).expect("ids");
            prop_assume!(!["<pad>", "<s>", "</s>"].iter().any(|special| text.contains(special)));
            prop_assert_eq!(tokenizer.decode(&ids).expect("text"), text);
        }
    }
}
