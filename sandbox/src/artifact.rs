//! CPython as a WebAssembly component, part of this binary: where it comes from stands in `guest/build.sh`.

use std::io::Read;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The packed component (zstd).
static PACKED: &[u8] = include_bytes!("../artifact/python.wasm.zst");
/// SHA-256 of the unpacked component.
pub const SHA256: &str = "589e2981db1d1c1d187956bbeb1bcbd8d656921a154f1dcb0a9be52d66cab459";
/// SHA-256 of the packed component.
pub const PACKED_SHA256: &str = "a29c7f68ddb35c59716a67566b8355bd6383ebb99f9143478ab3dac92a3228cd";
/// What is inside.
pub const DESCRIPTION: &str = "CPython 3.14.0 for WASI, componentize-py 0.25.1";
const MOST: u64 = 128 << 20;

/// Unpacks the component and checks its hash.
///
/// # Errors
/// When the bytes are not those that this source was released with.
pub fn unpack() -> Result<Vec<u8>> {
    let damaged = |error: &dyn std::fmt::Display| Error::Artifact(error.to_string());
    let stream = ruzstd::decoding::StreamingDecoder::new(PACKED).map_err(|error| damaged(&error))?;
    let mut bytes = Vec::new();
    stream.take(MOST).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    let found = hex(&Sha256::digest(&bytes));
    if found != SHA256 {
        return Err(Error::Artifact(format!("its SHA-256 is {found}, expected {SHA256}")));
    }
    Ok(bytes)
}

/// SHA-256 of the packed bytes in this binary.
pub fn packed_sha256() -> String {
    hex(&Sha256::digest(PACKED))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
