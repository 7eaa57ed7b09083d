//! `manifest.toml`: an error or a manifest.
#![no_main]

use std::{cell::LazyCell, fs};

use framepipe_model::{MANIFEST_FILE, Manifest};
use tempfile::TempDir;

thread_local! {
    static FOLDER: LazyCell<TempDir> =
        LazyCell::new(|| tempfile::tempdir_in("/dev/shm").expect("there is room in /dev/shm"));
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        fs::write(folder.path().join(MANIFEST_FILE), bytes).expect("the folder is the target's own");
        if let Err(error) = Manifest::load(folder.path()) {
            assert!(error.to_string().contains(MANIFEST_FILE), "it names the file: {error}");
        }
    });
});
