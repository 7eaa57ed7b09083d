//! Where the pictures go. A folder is written to that is new or empty, or that has the inspect.json of an earlier inspection: the
//! files that this lists are replaced. No other file is harmed.

use std::{
    fs::{self, OpenOptions},
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use image::{ImageFormat, RgbImage};
use serde::Deserialize;

use crate::report::Report;

/// The report in the folder.
const REPORT: &str = "inspect.json";

/// What an earlier inspection left.
#[derive(Deserialize)]
struct Earlier {
    files: Vec<PathBuf>,
}

/// The folder of one inspection.
pub struct Folder {
    path: PathBuf,
    files: Vec<String>,
}

/// The folder of an inspection of `image`, without `--out`.
pub fn default_of(image: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from("inspect-");
    name.push(image.file_stem().unwrap_or_default());
    name.into()
}

impl Folder {
    /// Makes the folder, or clears it of an earlier inspection.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let place = || path.display().to_string();
        fs::create_dir_all(path).with_context(place)?;
        let report = path.join(REPORT);
        if report.exists() {
            let text = fs::read(&report).with_context(|| report.display().to_string())?;
            let advice = || format!("{} is no inspection's: give another folder with --out", report.display());
            let earlier: Earlier = serde_json::from_slice(&text).with_context(advice)?;
            for name in earlier.files.iter().filter(|name| name.file_name() == Some(name.as_os_str())) {
                match fs::remove_file(path.join(name)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| path.join(name).display().to_string());
                    }
                    _ => {}
                }
            }
        } else {
            let is_empty = fs::read_dir(path).with_context(place)?.next().is_none();
            ensure!(
                is_empty,
                "{} has files, and no {REPORT} of an earlier inspection: give another folder with --out, or remove it",
                path.display()
            );
        }
        Ok(Self { path: path.to_owned(), files: Vec::new() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, which must not be there.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).with_context(|| {
            format!("{}, which no earlier inspection left; --out gives another folder", path.display())
        })?;
        file.write_all(bytes).with_context(|| path.display().to_string())?;
        self.files.push(name.to_owned());
        Ok(())
    }

    /// Writes a PNG.
    pub fn write_picture(&mut self, name: &str, picture: &RgbImage) -> anyhow::Result<()> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).with_context(|| format!("{name} cannot be encoded"))?;
        self.write(name, bytes.get_ref())
    }

    /// Notes in the report what was written, and leaves it in the folder.
    pub fn finish(&mut self, report: &mut Report) -> anyhow::Result<()> {
        report.files = self.files.iter().cloned().chain([REPORT.to_owned()]).collect();
        self.write(REPORT, serde_json::to_string_pretty(report)?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_others_files_is_refused_and_an_earlier_inspections_is_cleared_of_its_own_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out");
        let mut folder = Folder::open(&path).unwrap();
        folder.write("a.png", b"1").unwrap();
        assert!(folder.write("a.png", b"2").is_err(), "it is there");
        assert!(Folder::open(&path).is_err(), "it has no report yet");
        fs::write(home.path().join("outside.png"), b"mine").unwrap();
        fs::write(path.join("mine.png"), b"mine").unwrap();
        fs::write(path.join(REPORT), r#"{"files": ["a.png", "../outside.png", "gone.png", "inspect.json"]}"#).unwrap();
        let mut folder = Folder::open(&path).unwrap();
        assert!(home.path().join("outside.png").exists() && path.join("mine.png").exists());
        assert!(!path.join("a.png").exists() && !path.join(REPORT).exists());
        assert!(folder.write("mine.png", b"2").is_err(), "it is another's");
        fs::write(path.join(REPORT), "[]").unwrap();
        assert!(Folder::open(&path).is_err(), "that is no report");
    }
}
