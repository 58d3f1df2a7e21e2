//! CPython as a WebAssembly component, part of this binary: where it comes from stands in `guest/build.sh`.

use std::io::Read;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The packed component (zstd).
static PACKED: &[u8] = include_bytes!("../artifact/python.wasm.zst");
/// SHA-256 of the unpacked component.
pub const SHA256: &str = "ff0eac4dd14ae00cdb39c5f640f7b18458e02a03d29034f705b51355de182b7c";
/// SHA-256 of the packed component.
pub const PACKED_SHA256: &str = "b5d0b600f17ff4d698a1953e0d9905fd0f2f0d69848165323445762e59a961b3";
/// SHA-256 of the guest sources that it was built from, one after the other in the order of their paths.
pub const SOURCES_SHA256: &str = "af668b30d1aec7077ff02fd33805889ca11429f5ffd7c698baee2c22c3aa1003";
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
