//! Images on disk: a page of head, then the bytes. Written aside and renamed, so that a file of an image's name is whole; read
//! piece by piece, checked against the checksum that the frame's request bears, and forgotten by the page cache.
//!
//! A file's name is the image's id, 16 hexadecimal digits: the gateway's owner id and a number.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::AsFd,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, fadvise, fdatasync};

use crate::{Digest, Hasher};

/// Bytes that are read or written at once.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of a file before its image's.
pub const HEAD_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"fp-spill";
const NEW: &str = ".new";

/// Why an image could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// There is no file of it.
    #[error("{0} is gone")]
    Gone(String),
    /// The file is not what was written.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// Which file.
        path: String,
        /// What differs.
        what: String,
    },
    /// The disk.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: String,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Where an image's file lies.
pub fn path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id:016x}"))
}

/// A file that is being written; dropped otherwise than by [`Writer::finish`], it is removed.
pub struct Writer {
    folder: PathBuf,
    id: u64,
    file: File,
    bytes: u64,
    is_finished: bool,
}

impl Writer {
    /// Begins the file of an image.
    ///
    /// # Errors
    /// What the operating system says: no room, say.
    pub fn begin(folder: &Path, id: u64) -> io::Result<Self> {
        let aside = aside(folder, id);
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
        Ok(Self { folder: folder.to_owned(), id, file, bytes: 0, is_finished: false })
    }

    /// The next bytes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, HEAD_BYTES as u64 + self.bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its name, once it is on the disk and the page cache has forgotten it.
    ///
    /// # Errors
    /// What the operating system says; then there is no file.
    pub fn finish(mut self, sum: Digest) -> io::Result<()> {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        head[8..16].copy_from_slice(&self.id.to_le_bytes());
        head[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        head[24..40].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&head, 0)?;
        fdatasync(&self.file)?; // else it could not be forgotten
        forget(&self.file, 0, HEAD_BYTES as u64 + self.bytes);
        fs::rename(aside(&self.folder, self.id), path(&self.folder, self.id))?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = fs::remove_file(aside(&self.folder, self.id)); // what is left of it is cleared later
        }
    }
}

fn aside(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id:016x}{NEW}"))
}

/// The page cache keeps none of it: that is memory, too.
fn forget(file: impl AsFd, offset: u64, bytes: u64) {
    let _ = fadvise(file, offset, std::num::NonZeroU64::new(bytes), Advice::DontNeed); // an advice
}

/// Reads an image back into `into`, which has its length, and compares its checksum.
///
/// # Errors
/// [`SpillError`]; `into` holds no image then.
pub fn read(folder: &Path, id: u64, sum: Digest, hasher: &Hasher, into: &mut [u8]) -> Result<(), SpillError> {
    let image = Image::open(folder, id)?;
    if image.bytes != into.len() as u64 {
        return Err(image.damaged("its head is none of this image"));
    }
    let (mut running, mut at) = (hasher.begin(), 0);
    for piece in into.chunks_mut(PIECE_BYTES) {
        image.read(at, piece)?;
        running.add(piece);
        at += piece.len() as u64;
    }
    if running.end() != sum {
        return Err(image.damaged("its checksum differs"));
    }
    Ok(())
}

/// Compares an image's checksum with what its file says that it is. Returns its bytes.
///
/// # Errors
/// [`SpillError`].
pub fn verify(folder: &Path, id: u64, hasher: &Hasher) -> Result<u64, SpillError> {
    let image = Image::open(folder, id)?;
    let (mut running, mut piece, mut at) = (hasher.begin(), vec![0; PIECE_BYTES], 0);
    while at < image.bytes {
        let piece = &mut piece[..(image.bytes - at).min(PIECE_BYTES as u64) as usize];
        image.read(at, piece)?;
        running.add(piece);
        at += piece.len() as u64;
    }
    if running.end() != image.sum {
        return Err(image.damaged("its checksum differs"));
    }
    Ok(image.bytes)
}

/// An image's file with a head that is one.
struct Image {
    path: PathBuf,
    file: File,
    /// Of the image, as the head says.
    bytes: u64,
    sum: Digest,
}

impl Image {
    fn open(folder: &Path, id: u64) -> Result<Self, SpillError> {
        let path = path(folder, id);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(SpillError::Gone(path.display().to_string()));
            }
            other => other.map_err(|error| SpillError::Io { path: path.display().to_string(), error })?,
        };
        let (mut image, mut head) = (Self { path, file, bytes: 0, sum: 0 }, [0; HEAD_BYTES]);
        image.fill(0, &mut head)?;
        if &head[..8] != MAGIC || head[8..16] != id.to_le_bytes() {
            return Err(image.damaged("its head is none of this image"));
        }
        image.bytes = u64::from_le_bytes(head[16..24].try_into().expect("eight bytes"));
        image.sum = Digest::from_le_bytes(head[24..40].try_into().expect("sixteen bytes"));
        Ok(image)
    }

    /// Reads the image's bytes from `at` on, and lets the page cache forget them.
    fn read(&self, at: u64, piece: &mut [u8]) -> Result<(), SpillError> {
        let at = at.saturating_add(HEAD_BYTES as u64);
        self.fill(at, piece)?;
        forget(&self.file, at, piece.len() as u64);
        Ok(())
    }

    fn fill(&self, at: u64, piece: &mut [u8]) -> Result<(), SpillError> {
        self.file.read_exact_at(piece, at).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => self.damaged("it was cut short"),
            _ => SpillError::Io { path: self.path.display().to_string(), error },
        })
    }

    fn damaged(&self, what: &str) -> SpillError {
        SpillError::Damaged { path: self.path.display().to_string(), what: what.to_owned() }
    }
}

/// Removes an image's file, if there is one. Returns its bytes.
pub fn remove(folder: &Path, id: u64) -> Option<u64> {
    let path = path(folder, id);
    let bytes = fs::symlink_metadata(&path).ok()?.len();
    fs::remove_file(&path).ok().map(|()| bytes)
}

/// A file of the folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpillFile {
    /// The image's id.
    pub id: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// False while it is written, or where its writer died.
    pub is_whole: bool,
}

/// The files of a folder. What bears no image's name is not looked at.
///
/// # Errors
/// Where the folder cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<SpillFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let (digits, is_whole) = name.strip_suffix(NEW).map_or((name, true), |digits| (digits, false));
        let id = u64::from_str_radix(digits, 16).ok().filter(|id| format!("{id:016x}") == digits);
        if let (Some(id), Ok(metadata)) = (id, entry.metadata()) {
            files.push(SpillFile { id, bytes: metadata.len(), is_whole });
        }
    }
    Ok(files)
}

/// Removes a file that [`list`] named.
pub fn clear(folder: &Path, file: &SpillFile) -> bool {
    let path = if file.is_whole { path(folder, file.id) } else { aside(folder, file.id) };
    fs::remove_file(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn written(folder: &Path, id: u64, bytes: &[u8], hasher: &Hasher) -> Digest {
        let mut writer = Writer::begin(folder, id).expect("made");
        bytes.chunks(100_000).for_each(|part| writer.add(part).expect("written"));
        let sum = hasher.of(bytes);
        writer.finish(sum).expect("renamed");
        sum
    }

    #[test]
    fn what_comes_back_is_what_was_written_or_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let (folder, hasher) = (folder.path(), Hasher::new([3; 32]));
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7) as u8).collect();
        let sum = written(folder, 5, &bytes, &hasher);
        let mut back = vec![0; bytes.len()];
        read(folder, 5, sum, &hasher, &mut back).expect("whole");
        assert_eq!(back, bytes);
        assert!(matches!(verify(folder, 5, &hasher), Ok(3_000_000)));
        assert!(matches!(read(folder, 6, sum, &hasher, &mut back), Err(SpillError::Gone(_))));
        let mut shorter = vec![0; bytes.len() - 1];
        assert!(matches!(read(folder, 5, sum, &hasher, &mut shorter), Err(SpillError::Damaged { .. })));
        let whole = fs::read(path(folder, 5)).expect("read");
        for at in [0, 9, 17, HEAD_BYTES, HEAD_BYTES + 2_999_999] {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            fs::write(path(folder, 5), damaged).expect("written");
            assert!(matches!(read(folder, 5, sum, &hasher, &mut back), Err(SpillError::Damaged { .. })), "byte {at}");
            assert!(matches!(verify(folder, 5, &hasher), Err(SpillError::Damaged { .. })), "byte {at}");
        }
        for length in [0, 100, HEAD_BYTES, HEAD_BYTES + 1_500_000] {
            fs::write(path(folder, 5), &whole[..length]).expect("written");
            assert!(
                matches!(read(folder, 5, sum, &hasher, &mut back), Err(SpillError::Damaged { .. })),
                "{length} bytes"
            );
            assert!(matches!(verify(folder, 5, &hasher), Err(SpillError::Damaged { .. })), "{length} bytes");
        }
    }

    #[test]
    fn a_file_that_was_not_finished_is_no_image() {
        let folder = tempfile::tempdir().expect("a folder");
        let (folder, hasher) = (folder.path(), Hasher::new([3; 32]));
        let mut writer = Writer::begin(folder, 1).expect("made");
        writer.add(b"half").expect("written");
        assert_eq!(list(folder).expect("read"), [SpillFile { id: 1, bytes: 4100, is_whole: false }]);
        drop(writer);
        assert_eq!(list(folder).expect("read"), []);
        written(folder, 2, b"whole", &hasher);
        let others = ["another", "+000000000000002", "000000000000000A", "00000000000000002", "2", "2.new"];
        others.iter().for_each(|name| fs::write(folder.join(name), b"x").expect("written"));
        let files = list(folder).expect("read");
        assert_eq!(files, [SpillFile { id: 2, bytes: 4101, is_whole: true }]);
        let mode = fs::metadata(path(folder, 2)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "an image is its owner's");
        assert!(clear(folder, &files[0]) && list(folder).expect("read").is_empty());
        assert_eq!(remove(folder, 2), None);
    }
}
