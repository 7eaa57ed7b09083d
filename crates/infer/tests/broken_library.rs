//! Alone in its process: the first library that a process is told to load is broken.

use framepipe_infer::{InferError, Runtime};

#[test]
fn a_file_that_is_no_library_is_an_error_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libonnxruntime.so");
    std::fs::write(&path, b"no library").unwrap();
    for _ in 0..2 {
        let error = Runtime::load(&path).unwrap_err();
        assert!(matches!(error, InferError::Library { .. }), "{error}");
        assert!(error.to_string().contains("scripts/setup"), "{error}");
    }
}
