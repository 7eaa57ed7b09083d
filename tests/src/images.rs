//! Images to push: generated ones, and the repository's photos.

use std::{fs, io::Cursor, path::PathBuf};

use image::{ImageFormat, RgbImage};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::repository;

/// A small PNG of this size.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let pixels = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, ImageFormat::Png).expect("memory takes a PNG");
    bytes.into_inner()
}

/// The bytes' SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A photo of the repository.
///
/// # Panics
/// When it is not there.
pub fn photo(name: &str) -> Vec<u8> {
    let path = photo_path(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: run scripts/setup --tests", path.display()))
}

/// Where a photo of the repository lies.
pub fn photo_path(name: &str) -> PathBuf {
    repository().join("photos").join(name)
}

/// A photo whose people are labelled.
#[derive(Deserialize)]
pub struct Labelled {
    /// Its file's name.
    pub file: String,
    sha256: String,
    /// (x1, y1, x2, y2) of each person, in pixels.
    pub person_xyxy: Vec<[f64; 4]>,
}

/// Where the labels lie.
pub fn labels_path() -> PathBuf {
    repository().join("tests/data/person_labels.json")
}

/// The photos whose people are labelled, with their bytes.
///
/// # Panics
/// When one is not there, or is another than the one that was labelled.
pub fn labelled() -> Vec<(Labelled, Vec<u8>)> {
    let text = fs::read(labels_path()).expect("the labels are in the repository");
    let labels: Vec<Labelled> = serde_json::from_slice(&text).expect("the labels are JSON");
    let with_bytes = |label: Labelled| {
        let bytes = photo(&label.file);
        assert_eq!(sha256(&bytes), label.sha256, "{} is not the labelled photo: run scripts/setup --tests", label.file);
        (label, bytes)
    };
    labels.into_iter().map(with_bytes).collect()
}
