//! Builds `src/shim/shim.cpp` once for each major version of TensorRT, against the headers that scripts/setup has put into
//! `build/tensorrt` (or those in `$FRAMEPIPE_TENSORRT`). Without headers the crate builds too, and finds no TensorRT.

use std::{env, path::PathBuf};

/// Folders of headers: they serve all libraries of their major version (see `shim.cpp`).
const HEADERS: [(u32, &str); 2] = [(10, "10.16"), (11, "11.4")];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(tensorrt_headers)");
    println!("cargo::rerun-if-env-changed=FRAMEPIPE_TENSORRT");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/shim");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is")).join("../..");
    let folder = env::var_os("FRAMEPIPE_TENSORRT").map_or_else(|| root.join("build/tensorrt"), PathBuf::from);
    println!("cargo::rustc-env=FRAMEPIPE_TENSORRT={}", folder.display());
    for (_, name) in HEADERS {
        println!("cargo::rerun-if-changed={}", folder.join(name).display()); // also headers that are yet to come
    }
    if HEADERS.iter().any(|(_, name)| !folder.join(name).join("NvInfer.h").is_file()) {
        return;
    }
    println!("cargo::rustc-cfg=tensorrt_headers");
    for (major, name) in HEADERS {
        let headers = folder.join(name);
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .file("src/shim/shim.cpp")
            .include("src/shim")
            .flag("-isystem")
            .flag(headers)
            .flag("-fno-exceptions")
            .define("FRAMEPIPE_TENSORRT_API", format!("framepipe_trt{major}_api").as_str())
            // Names of their own for the headers' inline functions: linked into one program, those of the two versions would
            // otherwise be taken for one another, and call what lies elsewhere in the other version's tables.
            .define("nvinfer1", format!("framepipe_trt{major}_nvinfer1").as_str())
            .define("nvonnxparser", format!("framepipe_trt{major}_nvonnxparser").as_str())
            .warnings(true)
            .extra_warnings(true)
            .warnings_into_errors(true)
            .compile(&format!("framepipe_trt{major}"));
    }
}
