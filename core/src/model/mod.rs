//! One trainable decoder for the families in use, its weights, tokenizer and kernels.
//!
//! Families are presets over shared blocks ([`arch`]); training, scoring and generation go through the same
//! [`Decoder`]. Leaves losses to [`crate::align`] and sampling to [`crate::generate`].

pub mod arch;
mod attention;
mod chat;
pub mod config;
pub mod convert;
#[cfg(test)]
mod corrupt;
mod decoder;
pub mod gguf;
pub mod kernels;
mod layer;
pub mod load;
pub mod lora;
pub mod names;
mod open;
pub mod ops;
pub mod remat;
pub mod save;
mod sentencepiece;
#[cfg(test)]
mod tests;
pub mod tiny;
mod tokenizer;
mod weights;

pub use attention::{Attention, AttentionSpec, Cache, Fork, Packed};
pub use config::DecoderConfig;
pub use decoder::{Decoder, Head, LoadOptions, Pass, Trainable};
pub use load::Checkpoint;
pub use lora::LoraConfig;
pub use open::ModelFolder;
pub use tokenizer::Tokenizer;
pub use weights::Weights;
