//! Runs what nobody trusts inside wasmtime: model-written Python, and WASM plugins.

pub mod guest;

pub use guest::{GuestError, GuestModule};
