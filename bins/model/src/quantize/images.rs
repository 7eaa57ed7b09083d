//! The images of a folder, and which of them calibrate: each fifth, so that the gate sees none of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

/// Names of images end so.
const SUFFIXES: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];
/// Most images that are looked at, spread evenly over the folder: what they give must find room on the disk.
const IMAGES_MAX: usize = 320;
/// One image calibrates of so many.
const CALIBRATION_EVERY: usize = 5;

/// Images by their use.
pub struct Images {
    pub calibration: Vec<PathBuf>,
    pub gate: Vec<PathBuf>,
}

/// The images of a folder, by name.
pub fn chosen(folder: &Path) -> anyhow::Result<Images> {
    ensure!(folder.is_dir(), "--images {}: there is no such folder", folder.display());
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let is_image = |path: &PathBuf| {
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_ascii_lowercase();
        SUFFIXES.contains(&suffix.as_str()) && path.is_file()
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_image).collect();
    ensure!(
        !paths.is_empty(),
        "{} holds no image ({}): name a folder of images of what the model is for",
        folder.display(),
        SUFFIXES.map(|suffix| format!(".{suffix}")).join(", ")
    );
    paths.sort();
    Ok(split(&paths))
}

fn split(paths: &[PathBuf]) -> Images {
    let count = paths.len().min(IMAGES_MAX);
    let (mut calibration, mut gate) = (Vec::new(), Vec::new());
    for number in 0..count {
        let path = paths[number * paths.len() / count].clone();
        if number % CALIBRATION_EVERY == 0 { &mut calibration } else { &mut gate }.push(path);
    }
    Images { calibration, gate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_image_calibrates_and_is_the_gates_and_many_are_spread_over_the_folder() {
        for (count, calibration, gate) in [(1, 1, 0), (250, 50, 200), (1000, 64, 256)] {
            let paths: Vec<PathBuf> = (0..count).map(|number| format!("{number:04}.jpg").into()).collect();
            let images = split(&paths);
            assert_eq!((images.calibration.len(), images.gate.len()), (calibration, gate), "{count}");
            assert!(images.calibration.iter().all(|path| !images.gate.contains(path)));
            let last = images.gate.last().or(images.calibration.last()).expect("one image is chosen");
            assert!(
                paths[..].iter().position(|path| path == last).expect("it is one of them") * 100 >= (count - 1) * 99
            );
        }
    }

    #[test]
    fn a_folder_without_images_is_an_error_that_says_what_to_give() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("notes.txt"), "none").unwrap();
        let words = chosen(home.path()).err().expect("there is no image").to_string();
        assert!(words.contains("holds no image") && words.contains(".webp"), "{words}");
        let words = chosen(&home.path().join("gone")).err().expect("there is no folder").to_string();
        assert!(words.contains("no such folder"), "{words}");
    }
}
