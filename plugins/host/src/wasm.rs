//! The same four functions in a WebAssembly module without imports, run by the sandbox's engine.

use std::path::Path;

use sipf_sandbox::GuestModule;

use crate::error::{Error, Result};
use crate::transport::{Kind, MAX_REPLY, Transport};

/// A loaded module.
pub struct Wasm {
    module: GuestModule,
}

impl Wasm {
    /// Compiles a module.
    ///
    /// # Errors
    /// When the file is no module, has an import, or lacks one of the functions.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        let module = GuestModule::load(&bytes).map_err(|error| Error::refused(path, error.to_string()))?;
        Ok(Self { module })
    }
}

impl Transport for Wasm {
    fn call(&self, request: &[u8]) -> std::result::Result<(i32, Vec<u8>), String> {
        let (status, reply) = self.module.call(request).map_err(|error| error.to_string())?;
        match reply.len() <= MAX_REPLY {
            true => Ok((status, reply)),
            false => Err(format!("a reply of {} bytes is over the limit of {MAX_REPLY}", reply.len())),
        }
    }

    fn kind(&self) -> Kind {
        Kind::Wasm
    }
}
