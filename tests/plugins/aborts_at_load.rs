//! A library whose initialiser aborts: it ends whatever process loads it.
#![allow(unsafe_code, reason = "an initialiser")]

extern "C" fn initialise() {
    std::process::abort()
}

#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
#[used]
static INITIALISE: extern "C" fn() = initialise;
