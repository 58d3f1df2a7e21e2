//! A library of another ABI.
#![allow(unsafe_code, reason = "the ABI by hand")]

#[unsafe(no_mangle)]
extern "C" fn sipf_abi() -> u32 {
    7
}

#[unsafe(no_mangle)]
extern "C" fn sipf_call() -> i32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn sipf_free() {}
