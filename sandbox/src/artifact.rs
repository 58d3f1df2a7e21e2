//! CPython as a WebAssembly component, part of this binary: where it comes from stands in `guest/build.sh`.

use std::io::Read;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The packed component (zstd).
static PACKED: &[u8] = include_bytes!("../artifact/python.wasm.zst");
/// SHA-256 of the unpacked component.
pub const SHA256: &str = "7b34125b69f4f984a73f7c8eadc078d94e42164d5349843a00ab4ee4241aad8f";
/// SHA-256 of the packed component.
pub const PACKED_SHA256: &str = "4b286d44b0e233ed7e5ede73293fbf3c8ba6e939d3ccf016b90e2a3eafcc9da2";
/// SHA-256 of the guest sources that it was built from, one after the other in the order of their paths.
pub const SOURCES_SHA256: &str = "dd304a2f4469f465ff59983085fc1599e36ba3decfda1011c36ce7329211616a";
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
