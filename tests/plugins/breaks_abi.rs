//! The four functions by hand, against the rules in every way that a call can be.
#![allow(unsafe_code, reason = "the ABI by hand")]

use std::ptr::null_mut;

#[repr(C)]
pub struct Buffer {
    ptr: *mut u8,
    len: usize,
}

const MANIFEST: &str = r#"{"api": {"major": 1, "minor": 0}, "name": "breaks-abi", "version": "1", "panic": "unwind",
    "tasks": [{"name": "breaks-abi"}]}"#;

#[unsafe(no_mangle)]
extern "C" fn sipf_abi() -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn sipf_alloc(_: usize) -> *mut u8 {
    null_mut()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sipf_free(_: *mut u8, _: usize) {}

#[unsafe(no_mangle)]
unsafe extern "C" fn sipf_call(request: *const u8, len: usize, reply: *mut Buffer) -> i32 {
    let request = String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(request, len) }).into_owned();
    let asked = |call: &str| request.contains(&format!("\"call\":\"{call}\""));
    let text = |text: &'static str| Buffer { ptr: text.as_ptr().cast_mut(), len: text.len() };
    let (status, answer) = match () {
        () if asked("manifest") => (0, text(MANIFEST)),
        () if asked("prompt") => (0, text("{\"not\": json")),
        () if asked("verify") => (0, text("[1, 2, 3]")),
        () if asked("judge") => (42, text("a status that does not exist")),
        () if asked("answer") => (0, Buffer { ptr: null_mut(), len: 5 }),
        () if asked("clean") => (0, Buffer { ptr: text("x").ptr, len: (64 << 20) + 1 }),
        () if asked("shots") => (4, text("expected value at line 1 column 1")),
        () => (3, Buffer { ptr: null_mut(), len: 0 }),
    };
    unsafe { reply.write_unaligned(answer) };
    status
}
