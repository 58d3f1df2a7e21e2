//! A library whose initialiser never returns: it stops whatever process loads it.
#![allow(unsafe_code, reason = "an initialiser")]

extern "C" fn initialise() {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
#[used]
static INITIALISE: extern "C" fn() = initialise;
