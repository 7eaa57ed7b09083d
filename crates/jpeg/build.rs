//! Builds `src/shim.c` against the headers of the libjpeg-turbo that `turbojpeg-sys` has built.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=src/shim.c");
    println!("cargo::rerun-if-changed=src/shim.h");
    let folders = env::var("DEP_TURBOJPEG_INCLUDE").expect("turbojpeg-sys says where its headers are");
    cc::Build::new()
        .file("src/shim.c")
        .includes(folders.split(','))
        .std("gnu11")
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(true)
        .compile("framepipe_jpeg_shim");
}
