//! Labels as they are meant. Files of labels come from anybody: each is bounded in bytes, and a value that cannot be right is
//! an error that names it.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use crate::{coco, voc};

/// Farthest that a box may lie from the image's corner, in pixels: products of sides stay exact enough.
const PIXELS_MAX: f64 = 1e7;

/// Labelled images.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// Names of the classes, each once.
    pub classes: Vec<String>,
    /// The images; no file is there twice.
    pub images: Vec<Labelled>,
}

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// Its path below the folder of images.
    pub file: String,
    /// Columns and rows, where the labels say.
    pub size: Option<(u32, u32)>,
    /// What is in it.
    pub objects: Vec<Object>,
}

/// One labelled object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Index into [`Labels::classes`].
    pub class: usize,
    /// Left, top, right, bottom, in pixels with edges at the integers: right is not left of left, bottom not above top.
    pub corners: [f64; 4],
    /// Whether it is to be found.
    pub counting: Counting,
}

/// Whether an object is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// It is.
    Counted,
    /// It need not be: a detection of it is neither right nor wrong (VOC's `difficult`).
    Ignored,
    /// A region of many (COCO's `iscrowd`): the same, for any number of detections that lie in it.
    Crowd,
}

/// Why labels cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LabelsError {
    /// The file or folder cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A file beyond its bound.
    #[error("{path}: has more than {most} bytes: split it")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Most bytes that are read.
        most: u64,
    },
    /// No JSON, or not COCO's.
    #[error(
        "{path}: {error}: labels are COCO's JSON with images, annotations and categories, or a folder of Pascal VOC's XML"
    )]
    Json {
        /// Which file.
        path: PathBuf,
        /// What, where.
        error: serde_json::Error,
    },
    /// No XML, or one that defines entities.
    #[error("{path}: {error}: Pascal VOC's XML is wanted, without a document type")]
    Xml {
        /// Which file.
        path: PathBuf,
        /// What, where.
        error: roxmltree::Error,
    },
    /// A value that cannot be right.
    #[error("{path}: {what}: {advice}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// The place and its value.
        what: String,
        /// What to do about it.
        advice: &'static str,
    },
}

impl Labels {
    /// Reads labels: a file of COCO's JSON, or a folder of Pascal VOC's XML.
    ///
    /// # Errors
    /// Names the file, the place in it, the value and what to do about it.
    pub fn read(path: &Path) -> Result<Self, LabelsError> {
        let labels = if path.is_dir() { voc::read(path)? } else { coco::read(path)? };
        let mut files = HashSet::new();
        for image in &labels.images {
            check_file(path, &image.file)?;
            if !files.insert(image.file.as_str()) {
                let what = format!("the image {:?} is there twice", image.file);
                return Err(wrong(path, what, "give each image one entry, with all its objects"));
            }
        }
        if labels.images.is_empty() {
            return Err(wrong(path, "there are no images".into(), "label one at least"));
        }
        Ok(labels)
    }
}

pub(crate) fn wrong(path: &Path, what: String, advice: &'static str) -> LabelsError {
    LabelsError::Wrong { path: path.to_owned(), what, advice }
}

/// The bytes of a file of at most `most`.
pub(crate) fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, LabelsError> {
    let failed = |error| LabelsError::Read { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(LabelsError::TooLarge { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// An image's name leads to nowhere but below the folder of images.
fn check_file(path: &Path, file: &str) -> Result<(), LabelsError> {
    let mut parts = Path::new(file).components();
    let is_below = !file.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)));
    if is_below && !file.contains('\0') {
        return Ok(());
    }
    Err(wrong(path, format!("the image's name {file:?}"), "name a file below the folder of images, without \"..\""))
}

/// Corners that are numbers, near enough, in their order.
pub(crate) fn check_corners(path: &Path, place: &str, corners: [f64; 4]) -> Result<[f64; 4], LabelsError> {
    let [x0, y0, x1, y1] = corners;
    if !corners.iter().all(|edge| edge.abs() <= PIXELS_MAX) {
        return Err(wrong(
            path,
            format!("{place} has the corners {corners:?}"),
            "give pixels, at most 10 million of them",
        ));
    }
    if x1 < x0 || y1 < y0 {
        let what = format!("{place} is {} wide and {} high", x1 - x0, y1 - y0);
        return Err(wrong(path, what, "give sides of 0 or more"));
    }
    Ok(corners)
}

#[cfg(test)]
mod tests;
