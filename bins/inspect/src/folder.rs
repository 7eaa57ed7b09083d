//! Where the pictures go. A folder is written to that is new or empty, or that has the inspect.json of an earlier inspection: the
//! files that this lists are replaced. No other file is harmed. It lists each file from when the file is made, so that what a failed
//! inspection left is replaced too.

use std::{
    fs::{self, OpenOptions},
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use image::{ImageFormat, RgbImage};
use serde::{Deserialize, Serialize};

use crate::report::Report;

/// The report in the folder.
const REPORT: &str = "inspect.json";
/// The report until it is whole.
const PART: &str = "inspect.json.part";

/// What an earlier inspection left; and the report of one that is not finished.
#[derive(Deserialize, Serialize)]
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
            let is_its_own = |name: &&PathBuf| name.file_name() == Some(name.as_os_str()) && name.as_os_str() != REPORT;
            for name in earlier.files.iter().filter(is_its_own) {
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
        let folder = Self { path: path.to_owned(), files: vec![REPORT.to_owned()] };
        folder.note()?;
        Ok(folder)
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
        self.files.push(name.to_owned());
        self.note()?;
        file.write_all(bytes).with_context(|| path.display().to_string())
    }

    /// Writes a PNG.
    pub fn write_picture(&mut self, name: &str, picture: &RgbImage) -> anyhow::Result<()> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).with_context(|| format!("{name} cannot be encoded"))?;
        self.write(name, bytes.get_ref())
    }

    /// Notes in the report what was written, and leaves it in the folder.
    pub fn finish(&self, report: &mut Report) -> anyhow::Result<()> {
        report.files = self.files.clone();
        self.replace_report(serde_json::to_string_pretty(report)?.as_bytes())
    }

    /// Leaves a report of the files alone.
    fn note(&self) -> anyhow::Result<()> {
        let files = self.files.iter().map(PathBuf::from).collect();
        self.replace_report(&serde_json::to_vec(&Earlier { files })?)
    }

    /// The earlier report stays where the new one cannot be written.
    fn replace_report(&self, text: &[u8]) -> anyhow::Result<()> {
        let (part, report) = (self.path.join(PART), self.path.join(REPORT));
        let replaced = fs::write(&part, text).and_then(|()| fs::rename(&part, &report));
        if replaced.is_err() {
            let _ = fs::remove_file(&part); // the first error is the one to tell
        }
        replaced.with_context(|| report.display().to_string())
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
        drop(folder);
        Folder::open(&path).expect("the inspection failed, and what it left is replaced");
        assert!(!path.join("a.png").exists());
        fs::remove_file(path.join(REPORT)).unwrap();
        fs::write(path.join("a.png"), b"mine").unwrap();
        assert!(Folder::open(&path).is_err(), "it has no report");
        fs::write(home.path().join("outside.png"), b"mine").unwrap();
        fs::write(path.join("mine.png"), b"mine").unwrap();
        fs::write(path.join(REPORT), r#"{"files": ["a.png", "../outside.png", "gone.png", "inspect.json"]}"#).unwrap();
        let mut folder = Folder::open(&path).unwrap();
        assert!(home.path().join("outside.png").exists() && path.join("mine.png").exists());
        assert!(!path.join("a.png").exists() && !path.join(PART).exists());
        assert!(folder.write("mine.png", b"2").is_err(), "it is another's");
        Folder::open(&path).unwrap();
        assert!(path.join("mine.png").exists(), "it was not made by the inspection that failed at it");
        fs::write(path.join(REPORT), "[]").unwrap();
        assert!(Folder::open(&path).is_err(), "that is no report");
    }
}
