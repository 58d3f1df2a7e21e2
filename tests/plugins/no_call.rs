//! A library that lacks one of the functions.
#![allow(unsafe_code, reason = "the ABI by hand")]

#[unsafe(no_mangle)]
extern "C" fn sipf_abi() -> u32 {
    1
}
