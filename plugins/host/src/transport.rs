//! Bytes in, status and bytes out: what a native library, a WASM module and a Python file have in common.

use std::fmt;

/// The largest reply that is accepted, in bytes.
pub const MAX_REPLY: usize = 64 << 20;

/// A loaded plugin that can be called from several threads at once.
pub trait Transport: Send + Sync {
    /// One request, one reply.
    ///
    /// # Errors
    /// When the plugin broke the ABI, trapped or ran out of time or memory: a text that says which.
    fn call(&self, request: &[u8]) -> Result<(i32, Vec<u8>), String>;

    /// Which transport this is.
    fn kind(&self) -> Kind;
}

/// How a plugin is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Linked into the binary.
    Builtin,
    /// A shared library of this machine.
    Native,
    /// A WebAssembly module without imports.
    Wasm,
    /// A Python file run by the sandboxed interpreter.
    Python,
}

impl Kind {
    /// By file name; `None` for a file that is no plugin.
    pub fn of(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "so" | "dylib" | "dll" => Some(Self::Native),
            "wasm" => Some(Self::Wasm),
            "py" => Some(Self::Python),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Builtin => "builtin",
            Self::Native => "native",
            Self::Wasm => "wasm",
            Self::Python => "python",
        })
    }
}
