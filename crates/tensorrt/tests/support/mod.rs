//! Libraries that the tests make: TensorRTs, CUDA drivers, and things that are neither.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use framepipe_tensorrt::Driver;

/// Where scripts/setup put TensorRT's headers, and with --tests its lean runtime.
pub const FOLDER: &str = env!("FRAMEPIPE_TENSORRT");

/// Compiles a shared library.
fn compile(compiler: (&str, &str), arguments: &[&str], source: &Path, library: &Path) {
    let compiler = env::var(compiler.0).unwrap_or(compiler.1.to_owned());
    let output = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-o"])
        .args([library, source])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A library of C.
pub fn c_library(folder: &Path, name: &str, source: &str) -> PathBuf {
    fs::create_dir_all(folder).expect("a folder");
    let (source_file, library) = (folder.join(format!("{name}.c")), folder.join(name));
    fs::write(&source_file, source).expect("a source file");
    compile(("CC", "cc"), &[], &source_file, &library);
    library
}

/// A TensorRT of the tests' own, with its parser, as a folder.
pub fn fake_tensorrt(folder: &Path, headers: &str) -> PathBuf {
    let major = headers.split('.').next().expect("it begins so");
    let folder = folder.join(headers);
    fs::create_dir_all(&folder).expect("a folder");
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = folder.join(format!("libnvinfer.so.{major}"));
    let headers = Path::new(FOLDER).join(headers);
    assert!(headers.is_dir(), "there is no {}: run scripts/setup, then build again", headers.display());
    let shim = crate_folder.join("src/shim");
    let [headers, shim] = [&headers, &shim].map(|path| path.to_str().expect("a path of text"));
    let arguments = ["-std=c++17", "-I", shim, "-isystem", headers];
    compile(("CXX", "c++"), &arguments, &crate_folder.join("tests/support/fake.cpp"), &library);
    std::os::unix::fs::symlink(&library, folder.join(format!("libnvonnxparser.so.{major}"))).expect("a link");
    folder
}

/// A CUDA driver that says these things.
pub fn fake_driver(folder: &Path, init: i32, devices: i32) -> PathBuf {
    let source = format!(
        "int cuInit(unsigned flags) {{ return flags ? 1 : {init}; }}\n\
         int cuDeviceGetCount(int* count) {{ *count = {devices}; return 0; }}\n"
    );
    c_library(folder, &format!("libcuda-{init}-{devices}.so"), &source)
}

/// The proof of a driver, by a fake one.
pub fn driver(folder: &Path) -> Driver {
    Driver::open(&fake_driver(folder, 0, 1)).expect("it has a GPU")
}
