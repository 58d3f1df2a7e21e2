//! A shared library through libloading. It is never unloaded: Rust libraries cannot be.
#![expect(unsafe_code, reason = "opens a shared library and calls the four functions of the plugin ABI")]

use std::path::Path;
use std::time::{Duration, Instant};

use sipf_plugin::abi::{Buffer, VERSION};

use crate::error::{Error, Result};
use crate::transport::{Kind, MAX_REPLY, Transport};

type Abi = unsafe extern "C" fn() -> u32;
type Call = unsafe extern "C" fn(*const u8, usize, *mut Buffer) -> i32;
type Free = unsafe extern "C" fn(*mut u8, usize);

/// A call that takes longer than this is reported; native code cannot be interrupted.
const SLOW: Duration = Duration::from_secs(5);

/// A loaded shared library.
#[derive(Debug)]
pub struct Native {
    name: String,
    call: Call,
    free: Free,
}

impl Native {
    /// Loads a library and checks its ABI version. Runs the library's initialisers: see [`crate::probe`] first.
    ///
    /// # Errors
    /// When the file is no library, lacks one of the functions or speaks another ABI.
    pub fn load(path: &Path) -> Result<Self> {
        let path = path.canonicalize().map_err(|error| Error::io(path, error))?;
        let refused = |message: String| Error::refused(&path, message);
        let library = open(&path).map_err(|error| refused(format!("cannot be loaded: {}", chain(&error))))?;
        // Kept for ever: unloading a Rust library is not sound.
        let library: &'static Library = Box::leak(Box::new(library));
        let missing =
            |symbol: &str| refused(format!("has no function `{symbol}`: is it built with `export_task!`?"));
        // SAFETY: the ABI fixes the signature of each symbol; the library lives for ever.
        let (abi, call, free) = unsafe {
            (
                *library.get::<Abi>(b"sipf_abi\0").map_err(|_| missing("sipf_abi"))?,
                *library.get::<Call>(b"sipf_call\0").map_err(|_| missing("sipf_call"))?,
                *library.get::<Free>(b"sipf_free\0").map_err(|_| missing("sipf_free"))?,
            )
        };
        // SAFETY: takes nothing, returns a number.
        let version = unsafe { abi() };
        if version != VERSION {
            return Err(refused(format!(
                "speaks plugin ABI {version}, this sipf speaks {VERSION}: rebuild it"
            )));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, call, free })
    }
}

#[cfg(not(unix))]
use libloading::Library;
#[cfg(unix)]
use libloading::os::unix::Library;

#[cfg(unix)]
fn open(path: &Path) -> std::result::Result<Library, libloading::Error> {
    use libloading::os::unix::{RTLD_LOCAL, RTLD_NOW};
    // SAFETY: runs the library's initialisers; the caller asked for this library by name, and it was probed.
    // NOW: missing symbols are found here, not in the middle of a run.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
}

#[cfg(not(unix))]
fn open(path: &Path) -> std::result::Result<Library, libloading::Error> {
    // SAFETY: runs the library's initialisers; the caller asked for this library by name, and it was probed.
    unsafe { Library::new(path) }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

impl Transport for Native {
    fn call(&self, request: &[u8]) -> std::result::Result<(i32, Vec<u8>), String> {
        let mut reply = Buffer { ptr: std::ptr::null_mut(), len: 0 };
        let start = Instant::now();
        // SAFETY: the request is borrowed for the call, the reply is ours and writable.
        let status = unsafe { (self.call)(request.as_ptr(), request.len(), &raw mut reply) };
        let took = start.elapsed();
        if took > SLOW {
            use std::io::Write;
            let _ = writeln!(
                std::io::stderr(),
                "sipf: plugin {} took {:.0} s for one call; native code cannot be interrupted, a WASM build can",
                self.name,
                took.as_secs_f64()
            );
        }
        if reply.ptr.is_null() {
            return match reply.len {
                0 => Ok((status, Vec::new())),
                len => Err(format!("broke the ABI: a reply of {len} bytes at a null pointer")),
            };
        }
        let kept = match reply.len <= MAX_REPLY {
            // SAFETY: the plugin owns `len` initialised bytes at `ptr` until we give them back below.
            true => Ok(unsafe { std::slice::from_raw_parts(reply.ptr, reply.len) }.to_vec()),
            false => Err(format!("a reply of {} bytes is over the limit of {MAX_REPLY}", reply.len)),
        };
        // SAFETY: the plugin's own block, given back once, after the copy.
        unsafe { (self.free)(reply.ptr, reply.len) };
        Ok((status, kept?))
    }

    fn kind(&self) -> Kind {
        Kind::Native
    }
}
