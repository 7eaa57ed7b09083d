//! The real library: TensorRT's lean runtime, which scripts/setup --tests fetches. It runs engines, and builds none.

mod support;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use framepipe_tensorrt::{BuildRequest, Driver, Library, Precision, Profile, Shape, TrtError};

fn library() -> PathBuf {
    let path = Path::new(support::FOLDER).join("lean/libnvinfer_lean.so.10");
    assert!(path.is_file(), "there is no {}: run scripts/setup --tests", path.display());
    path
}

#[test]
fn the_real_library_opens_without_a_driver_and_tells_its_version() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = heard.clone();
    let library = Library::open(&[library()], move |severity, text| {
        ears.lock().expect("sound").push(format!("{severity:?} {text}"));
    })
    .expect("the lean runtime opens");
    assert_eq!(library.version().to_string(), "10.16.1.11");
    assert!(!library.can_build());

    let Ok(driver) = Driver::find() else { return only_the_gate_is_asked() };
    // On a machine with a GPU it goes on: this is TensorRT itself, asked through the shim.
    let runtime = library.runtime(driver).expect("there is a driver");
    let error = runtime.engine(b"no plan").err().expect("it is none");
    assert!(matches!(&error, TrtError::Refused { lines, .. } if !lines.is_empty()), "{error}");
    assert!(!heard.lock().expect("sound").is_empty());
    let one = Shape::new(&[1, 3, 8, 8]).expect("a shape");
    let request = BuildRequest {
        onnx: b"",
        profile: &Profile::new("images", one, one, one).expect("a profile"),
        precision: Precision::Model,
        workspace_bytes: 0,
        timings: b"",
    };
    let error = library.build(driver, &request).expect_err("it builds nothing");
    assert!(matches!(error, TrtError::CannotBuild { .. }), "{error}");
}

/// Without a driver there is no token, and so no call that would return a pointer to nothing.
fn only_the_gate_is_asked() {
    let error = Driver::find().expect_err("there is no driver");
    assert!(matches!(error, TrtError::NoDriver { .. }) && error.to_string().contains("nvidia-smi"), "{error}");
}
