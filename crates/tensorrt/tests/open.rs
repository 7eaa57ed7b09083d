//! What is opened, and what is refused with words that help.

mod support;

use std::{fs, path::PathBuf};

use framepipe_tensorrt::{Driver, Library, TrtError};

fn open(search: &[PathBuf]) -> Result<Library, TrtError> {
    Library::open(search, |_, _| {})
}

fn refusal(search: &[PathBuf]) -> TrtError {
    match open(search) {
        Ok(library) => panic!("opened {}", library.path().display()),
        Err(error) => error,
    }
}

#[test]
fn without_tensorrt_the_error_says_where_was_looked_and_what_to_install() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = refusal(&[folder.path().to_owned()]);
    let TrtError::NotFound { looked } = &error else { panic!("{error}") };
    let words = error.to_string();
    assert!(looked.iter().any(|file| *file == folder.path().join("libnvinfer.so.11").display().to_string()), "{words}");
    assert!(looked.iter().any(|file| file.ends_with("tensorrt_libs/libnvinfer.so.10")), "{words}");
    assert!(looked.iter().any(|said| said.starts_with("libnvinfer.so.10: cannot open")), "the loader: {words}");
    assert!(words.contains("install TensorRT 10 or 11"), "{words}");
}

#[test]
fn another_major_version_is_refused_whatever_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (number, version) in [(8601, "8.6.1.0"), (9300, "9.3.0.0"), (120_000, "12.0.0.0"), (-1, "0.0.0.0")] {
        let place = folder.path().join(number.to_string());
        support::c_library(&place, "libnvinfer.so.10", &format!("int getInferLibVersion(void) {{ return {number}; }}"));
        let error = refusal(&[place]);
        let TrtError::OtherVersion { found, .. } = &error else { panic!("{error}") };
        assert_eq!(found.to_string(), version);
        assert!(error.to_string().contains("understands 10 and 11"), "{error}");
    }
}

#[test]
fn what_is_no_tensorrt_is_refused_and_nothing_behind_it_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let [text, library, half, whole] = ["text", "library", "half", "whole"].map(|name| folder.path().join(name));
    fs::create_dir(&text).expect("a folder");
    fs::write(text.join("libnvinfer.so.10"), "no library").expect("a file");
    support::c_library(&library, "libnvinfer.so.10", "int other(void) { return 0; }");
    let version = "int getInferLibVersion(void) { return 101600; }";
    support::c_library(&half, "libnvinfer.so.10", version);
    let maker = "void* createInferRuntime_INTERNAL(void* log, int version) { return 0; }";
    support::c_library(&whole, "libnvinfer.so.10", &format!("{version}\n{maker}"));

    let error = refusal(&[text.clone(), whole.clone()]);
    assert!(matches!(&error, TrtError::CannotLoad { path, .. } if *path == text.join("libnvinfer.so.10")), "{error}");
    let error = refusal(&[library, whole.clone()]);
    assert!(matches!(error, TrtError::NotTensorRt { symbol: "getInferLibVersion", .. }), "{error}");
    let error = refusal(&[half, whole.clone()]);
    assert!(matches!(error, TrtError::NotTensorRt { symbol: "createInferRuntime_INTERNAL", .. }), "{error}");

    let file = whole.join("libnvinfer.so.10");
    for search in [vec![folder.path().join("nothing"), whole], vec![file.clone()]] {
        let library = open(&search).expect("it has all that is asked of one");
        assert_eq!((library.path(), library.version().to_string().as_str()), (&*file, "10.16.0.0"));
        assert!(!library.can_build());
    }
}

#[test]
fn the_newest_version_of_a_folder_is_taken_and_a_wheel_is_found_below_site_packages() {
    let folder = tempfile::tempdir().expect("a folder");
    let wheel = folder.path().join("tensorrt_libs");
    for (name, number) in [("libnvinfer.so.10", 101_600), ("libnvinfer.so.11", 110_400)] {
        let source = format!(
            "int getInferLibVersion(void) {{ return {number}; }}\n\
             void* createInferRuntime_INTERNAL(void* log, int version) {{ return 0; }}"
        );
        support::c_library(&wheel, name, &source);
    }
    let library = open(&[folder.path().to_owned()]).expect("a wheel's library");
    assert_eq!((library.path(), library.version().major), (&*wheel.join("libnvinfer.so.11"), 11));
}

#[test]
fn a_driver_that_sees_no_gpu_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = |init, devices| {
        let error = Driver::open(&support::fake_driver(folder.path(), init, devices)).expect_err("it is none");
        assert!(matches!(error, TrtError::NoDriver { .. }));
        error.to_string()
    };
    assert!(words(100, 1).contains("cuInit returned 100"));
    assert!(words(0, 0).contains("0 GPUs"));
    let other = support::c_library(folder.path(), "other.so", "int other;");
    assert!(matches!(Driver::open(&other), Err(TrtError::NoDriver { .. })));
    assert!(matches!(Driver::open(&folder.path().join("none.so")), Err(TrtError::NoDriver { .. })));
    assert_eq!(support::driver(folder.path()).devices(), 1);
}
