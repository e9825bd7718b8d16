//! Links GCC's unwinder into an agent, where std asks for libgcc_s.so.1: each action is a program anew, and one library less
//! to load is a tenth of a millisecond of it. gcc's own option for that (`-static-libgcc`) has no effect on a library that is
//! asked for by its name, so that name is given to a linker script (ld, "Implicit Linker Scripts") that asks for the other.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") {
        return;
    }
    let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(directory.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n").expect("OUT_DIR can be written to");
    println!("cargo::rustc-link-search=native={}", directory.display());
}
