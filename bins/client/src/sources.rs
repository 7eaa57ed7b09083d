//! Which files are to be pushed: those that are named, those of folders, or those of a list on standard input.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, BufRead, Read as _},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

/// By which a folder's images are known.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];
/// Most images that are found before the first is pushed; a list on standard input may be longer.
const FOUND_MAX: usize = 1_000_000;
/// Folders in one another.
const DEPTH_MAX: usize = 64;
/// Files passed over that are named.
const NAMED_MAX: usize = 10;
/// Longest line of a list: the longest path that Linux takes.
const LINE_BYTES_MAX: usize = 4096;

/// Paths to push, one after another.
pub enum Sources {
    /// Those that were found.
    Found(std::vec::IntoIter<PathBuf>),
    /// Those of a list.
    Listed(Box<dyn BufRead + Send>),
}

/// What lay in folders and is not pushed.
#[derive(Debug, Default, PartialEq)]
pub struct PassedOver {
    /// The first of the files, which are no images by their names.
    named: Vec<PathBuf>,
    files: usize,
    /// Folders that were not entered.
    folders: usize,
}

impl PassedOver {
    /// What to say of it; `None` where there is nothing.
    pub fn words(&self) -> Option<String> {
        let mut words = Vec::new();
        if self.files > 0 {
            let names: Vec<String> = self.named.iter().map(|path| path.display().to_string()).collect();
            let more = if self.files > names.len() { ", …" } else { "" };
            words.push(format!("{} no images by their names: {}{more}", files(self.files), names.join(", ")));
        }
        if self.folders > 0 {
            let word = if self.folders == 1 { "folder" } else { "folders" };
            words.push(format!("{} {word} not entered: give --recursive", self.folders));
        }
        (!words.is_empty()).then(|| format!("passed over: {}", words.join("; ")))
    }
}

fn files(count: usize) -> String {
    format!("{count} {}", if count == 1 { "file is" } else { "files are" })
}

/// The images of these files and folders, in the order of the arguments, a folder's by their names. A file that is named is one,
/// whatever its name.
pub fn find(arguments: &[PathBuf], recursive: bool) -> anyhow::Result<(Vec<PathBuf>, PassedOver)> {
    let (mut found, mut passed) = (Vec::new(), PassedOver::default());
    for argument in arguments {
        if argument.is_dir() {
            search(argument, recursive, 0, &mut found, &mut passed)?;
        } else {
            take(argument.clone(), &mut found)?;
        }
    }
    Ok((found, passed))
}

fn take(path: PathBuf, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    ensure!(
        found.len() < FOUND_MAX,
        "more than {FOUND_MAX} images: push them in parts, or as a list: find … | framepipe push -"
    );
    found.push(path);
    Ok(())
}

fn search(
    folder: &Path,
    recursive: bool,
    depth: usize,
    found: &mut Vec<PathBuf>,
    passed: &mut PassedOver,
) -> anyhow::Result<()> {
    ensure!(depth < DEPTH_MAX, "{}: more than {DEPTH_MAX} folders in one another", folder.display());
    let unreadable = || format!("cannot read the folder {}", folder.display());
    let mut entries =
        fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).with_context(unreadable)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a folder is not followed: it may lead back up.
        if entry.file_type().with_context(unreadable)?.is_dir() {
            match recursive {
                true => search(&path, recursive, depth + 1, found, passed)?,
                false => passed.folders += 1,
            }
        } else if is_image(&path) {
            take(path, found)?;
        } else {
            passed.files += 1;
            if passed.named.len() < NAMED_MAX {
                passed.named.push(path);
            }
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

impl Sources {
    /// Of a list on standard input, one path a line; empty lines are none.
    pub fn standard_input() -> Self {
        Self::Listed(Box::new(io::BufReader::new(io::stdin())))
    }

    /// The next one.
    ///
    /// # Errors
    /// Where the list cannot be read, or has a line that can be no path.
    pub fn next(&mut self) -> anyhow::Result<Option<PathBuf>> {
        let list = match self {
            Self::Found(paths) => return Ok(paths.next()),
            Self::Listed(list) => list,
        };
        loop {
            let mut line = Vec::new();
            let most = LINE_BYTES_MAX as u64 + 1;
            list.take(most).read_until(b'\n', &mut line).context("cannot read the list on standard input")?;
            if line.is_empty() {
                return Ok(None);
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            ensure!(
                line.len() <= LINE_BYTES_MAX && !line.contains(&0),
                "a line of the list is no path: it has more than {LINE_BYTES_MAX} bytes, or a NUL (give one path a line)"
            );
            if !line.is_empty() {
                return Ok(Some(OsString::from_vec(line).into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &[u8]) -> Sources {
        Sources::Listed(Box::new(io::Cursor::new(text.to_vec())))
    }

    #[test]
    fn a_list_has_one_path_a_line_with_or_without_an_end() {
        let mut list = listed(b"a.jpg\n\n  b c.jpg\nlast");
        let mut next = || list.next().expect("a list").map(|path| path.display().to_string());
        assert_eq!([next(), next()], [Some("a.jpg".into()), Some("  b c.jpg".into())]);
        assert_eq!([next(), next(), next()], [Some("last".into()), None, None]);
    }

    #[test]
    fn a_line_that_can_be_no_path_is_an_error_however_long_it_is() {
        let longest = "x".repeat(LINE_BYTES_MAX);
        assert!(listed(format!("{longest}\n").as_bytes()).next().is_ok());
        assert!(listed(format!("{longest}x\n").as_bytes()).next().is_err());
        assert!(listed(&vec![b'x'; 3 * LINE_BYTES_MAX]).next().is_err());
        assert!(listed(b"a\0b\n").next().is_err());
    }

    #[test]
    fn images_are_known_by_their_extension_in_any_case() {
        for image in ["a.jpg", "a.JPEG", "a.b.png", "a.WebP", "/x/a.bmp"] {
            assert!(is_image(Path::new(image)), "{image}");
        }
        for other in ["a", "jpg", ".jpg", "a.gif", "a.jpg.txt", "a."] {
            assert!(!is_image(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn what_is_passed_over_is_named_and_counted() {
        assert_eq!(PassedOver::default().words(), None);
        let passed = PassedOver { named: vec!["a.txt".into(), "b".into()], files: 12, folders: 1 };
        let wanted =
            "passed over: 12 files are no images by their names: a.txt, b, …; 1 folder not entered: give --recursive";
        assert_eq!(passed.words().as_deref(), Some(wanted));
    }
}
