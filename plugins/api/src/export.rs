//! The macros that turn a crate into a plugin library. They expand in the library itself, never in a linked rlib.

/// Exports tasks and reward models from a `cdylib`: `export_plugin!(tasks: [Sums], rewards: [])`.
#[macro_export]
macro_rules! export_plugin {
    (tasks: [$($task:ty),* $(,)?], rewards: [$($reward:ty),* $(,)?]) => {
        #[allow(unsafe_code, reason = "the sipf plugin ABI; see sipf_plugin::abi")]
        const _: () = {
            fn plugin() -> &'static $crate::Plugin {
                static PLUGIN: ::std::sync::OnceLock<$crate::Plugin> = ::std::sync::OnceLock::new();
                PLUGIN.get_or_init(|| {
                    $crate::Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
                        $(.task(<$task as ::core::default::Default>::default()))*
                        $(.reward(<$reward as ::core::default::Default>::default()))*
                })
            }
            #[unsafe(no_mangle)]
            extern "C" fn sipf_abi() -> u32 {
                $crate::abi::VERSION
            }
            #[unsafe(no_mangle)]
            extern "C" fn sipf_alloc(len: usize) -> *mut u8 {
                $crate::abi::alloc(len)
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn sipf_free(ptr: *mut u8, len: usize) {
                // SAFETY: the host gives back what this library handed out, once.
                unsafe { $crate::abi::free(ptr, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn sipf_call(
                request: *const u8,
                len: usize,
                reply: *mut $crate::abi::Buffer,
            ) -> i32 {
                // SAFETY: the host keeps the request alive and the reply writable for the whole call.
                unsafe { $crate::abi::call(plugin(), request, len, reply) }
            }
            #[cfg(target_family = "wasm")]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn sipf_panic(reply: *mut $crate::abi::Buffer) {
                // SAFETY: the host's block is writable for the whole call.
                unsafe { $crate::abi::last_panic(reply) }
            }
        };
    };
}

/// Exports tasks: `export_task!(Sums)`.
#[macro_export]
macro_rules! export_task {
    ($($task:ty),+ $(,)?) => { $crate::export_plugin!(tasks: [$($task),+], rewards: []); };
}

/// Exports reward models: `export_reward!(MyPrm)`.
#[macro_export]
macro_rules! export_reward {
    ($($reward:ty),+ $(,)?) => { $crate::export_plugin!(tasks: [], rewards: [$($reward),+]); };
}
