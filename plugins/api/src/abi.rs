//! The ABI: four functions that a native library and a WASM module export alike. All of this crate's raw memory.
//!
//! | symbol | signature |
//! |---|---|
//! | `sipf_abi` | `fn() -> u32`, returns [`VERSION`] |
//! | `sipf_call` | `unsafe fn(request: *const u8, len: usize, reply: *mut Buffer) -> i32`, a [`Status`] |
//! | `sipf_free` | `unsafe fn(ptr: *mut u8, len: usize)` |
//! | `sipf_alloc` | `fn(len: usize) -> *mut u8` |
//!
//! A WASM module may export a fifth, `sipf_panic`: there a panic ends the instance before `sipf_call` returns, and the
//! host asks the dead instance for the panic's text.
//!
//! Requests belong to the host and are borrowed for the call. A reply belongs to the plugin until the host has
//! copied it and handed it to `sipf_free` once. Every block is byte-aligned and as long as its `len`.
#![expect(unsafe_code, reason = "the plugin ABI: raw buffers cross here and nowhere else in this crate")]

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::call::Status;
use crate::dispatch::Plugin;

/// Version of the four functions.
pub const VERSION: u32 = 1;

/// A reply's block.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    /// First byte; null for an empty reply.
    pub ptr: *mut u8,
    /// Bytes.
    pub len: usize,
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps a panic's text and place instead of printing it; installed in the plugin's own standard library.
fn keep_panic_text() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let text = text_of(info.payload()).unwrap_or("a value that is not text");
            let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
            LAST_PANIC.with_borrow_mut(|last| *last = format!("{text}{place}"));
        }));
    });
}

/// A panic's text, where it is text (the standard library's own method for it is younger than our oldest compiler).
fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&'static str>().copied().or_else(owned)
}

/// Answers one request: the body of `sipf_call`.
///
/// # Safety
/// `request` points to `len` bytes that stay unchanged until this returns (it may be null when `len` is 0), and
/// `reply` points to a [`Buffer`]'s worth of writable bytes.
pub unsafe fn call(plugin: &Plugin, request: *const u8, len: usize, reply: *mut Buffer) -> i32 {
    keep_panic_text();
    let request = match request.is_null() || len == 0 {
        true => &[][..],
        // SAFETY: the caller keeps request[..len] alive, initialised and unchanged until we return.
        false => unsafe { std::slice::from_raw_parts(request, len) },
    };
    let (status, body) = match catch_unwind(AssertUnwindSafe(|| plugin.dispatch(request))) {
        Ok(answer) => answer,
        Err(payload) => (Status::Panicked, panic_text(payload).into_bytes()),
    };
    // SAFETY: `reply` is a host-owned block that is writable for the whole call; it may be unaligned.
    unsafe { reply.write_unaligned(leak(body)) };
    status as i32
}

fn leak(body: Vec<u8>) -> Buffer {
    if body.is_empty() {
        return Buffer { ptr: std::ptr::null_mut(), len: 0 };
    }
    let body = Box::leak(body.into_boxed_slice());
    Buffer { ptr: body.as_mut_ptr(), len: body.len() }
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    // The payload's own drop may panic, so anything but plain text is left alone.
    if text_of(&*payload).is_none() {
        std::mem::forget(payload);
    }
    LAST_PANIC.with_borrow_mut(std::mem::take)
}

/// The last panic's text, empty when there was none: the body of `sipf_panic`.
///
/// # Safety
/// `reply` points to a [`Buffer`]'s worth of writable bytes.
pub unsafe fn last_panic(reply: *mut Buffer) {
    let text = LAST_PANIC.with_borrow_mut(std::mem::take);
    // SAFETY: `reply` is a host-owned block that is writable for the whole call; it may be unaligned.
    unsafe { reply.write_unaligned(leak(text.into_bytes())) };
}

/// A zeroed block of `len` bytes for the host to write to: the body of `sipf_alloc`.
pub fn alloc(len: usize) -> *mut u8 {
    leak(vec![0; len]).ptr
}

/// Takes a block back: the body of `sipf_free`.
///
/// # Safety
/// `ptr` and `len` came from one reply or one `sipf_alloc` of this plugin and are given back once.
pub unsafe fn free(ptr: *mut u8, len: usize) {
    if ptr.is_null() || len == 0 {
        return;
    }
    // SAFETY: the block was leaked from a boxed slice of exactly this length and nobody else frees it.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(ptr, len)) });
}
