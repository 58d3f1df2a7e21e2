//! CPython as a WebAssembly component, part of this binary: where it comes from stands in `guest/build.sh`.

use std::io::Read;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The packed component (zstd).
static PACKED: &[u8] = include_bytes!("../artifact/python.wasm.zst");
/// SHA-256 of the unpacked component.
pub const SHA256: &str = "8cac33b71a7c96b86a8d0300f457002963cb41002d323b98f7cf6c0caac783d4";
/// SHA-256 of the packed component.
pub const PACKED_SHA256: &str = "c8589b28bf34d7c04ff44d96ca469ca718d158beb88a34795aeb07b568680468";
/// SHA-256 of the guest sources that it was built from, one after the other in the order of their paths.
pub const SOURCES_SHA256: &str = "2b3fcdc90070a2ef3f4f6316f4564d75412a55030f284cbf8f3270800306a049";
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
