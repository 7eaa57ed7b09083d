//! NVIDIA's driver in states that this machine's is not in: the reason is said, by `framepipe-gpu list` and by `framepipe up`, and
//! nothing panics. The driver is one of the test's own: a library with a few functions, compiled here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use framepipe_tests::{Home, program};

/// What FAKE_DRIVER says: the answer of cuInit, the version, how many devices there are.
const DRIVER: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static int said[3];
static void look(void) { sscanf(getenv("FAKE_DRIVER"), "%d %d %d", said, said + 1, said + 2); }
int cuInit(unsigned flags) { look(); return said[0]; }
int cuDriverGetVersion(int *version) { look(); *version = said[1]; return 0; }
int cuDeviceGetCount(int *count) { look(); *count = said[2]; return 0; }
int cuGetErrorName(int error, const char **name) { *name = "CUDA_ERROR_OF_THE_TEST"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "words of the test"; return 0; }
"#;

/// CUDA_ERROR_NO_DEVICE.
const NO_DEVICE: i32 = 100;
/// CUDA_ERROR_SYSTEM_DRIVER_MISMATCH.
const MISMATCH: i32 = 803;

fn driver(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("driver.c"), folder.join("libcuda.so.1"));
    fs::write(&source, DRIVER).expect("a temporary folder can be written");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(status.expect("there is a C compiler").success());
    folder.to_owned()
}

fn run(libraries: &Path, state: (i32, i32, i32), mut command: Command) -> Output {
    let (init, version, devices) = state;
    command.env("LD_LIBRARY_PATH", libraries).env("FAKE_DRIVER", format!("{init} {version} {devices}"));
    command.output().expect("it can be run")
}

#[test]
fn a_driver_that_cannot_serve_is_an_error_that_says_what_to_do() {
    if Path::new("/dev/nvidiactl").exists() {
        println!("skipped: this machine's driver would be found first");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let libraries = driver(folder.path());
    let home = Home::new();
    let config = home.configure("name = \"gpu\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n");
    for (state, words) in [
        ((0, 11_040, 1), "knows CUDA 11.4 and framepipe needs 12.0 (driver 525) or newer: update it"),
        ((MISMATCH, 12_040, 1), "driver does not start (CUDA_ERROR_OF_THE_TEST (words of the test))"),
        ((NO_DEVICE, 12_040, 0), "driver sees none (look at CUDA_VISIBLE_DEVICES"),
        ((0, 12_040, 0), "driver sees none (look at CUDA_VISIBLE_DEVICES"),
    ] {
        let mut list = Command::new(program().with_file_name("framepipe-gpu"));
        list.arg("list");
        let mut up = Command::new(program());
        up.args(["up", "--device", "gpu", "--config"]).arg(&config);
        for command in [list, up] {
            let output = run(&libraries, state, command);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{state:?}: {said}");
            assert!(
                said.contains("no GPU") && said.contains(words) && said.contains("--device cpu"),
                "{state:?}: {said}"
            );
            assert!(!said.contains("panicked"), "{said}");
        }
        assert_eq!(home.left_in_memory(), Vec::<PathBuf>::new(), "and nothing is left");
    }
}
