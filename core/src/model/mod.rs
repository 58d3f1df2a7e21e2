//! One trainable decoder for the families in use, its weights, tokenizer and kernels.

mod attention;
mod chat;
pub mod convert;
mod sentencepiece;
mod tokenizer;

pub use attention::{AttentionSpec, Cache};
pub use tokenizer::Tokenizer;
