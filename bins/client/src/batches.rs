//! Files read into batches, which are bounded in images and in bytes: what is pushed next is in memory, and no more.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use anyhow::bail;

use crate::sources::Sources;

/// Bytes from which on a batch takes no further image.
const BATCH_BYTES: u64 = 8 << 20;
/// Largest file that is read: more than any image that a server takes unless its pools were made for it.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Longest name that a result bears.
const NAME_BYTES_MAX: usize = 255;

/// An image to push.
pub struct Image {
    /// The name that its result bears.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a batch holds.
#[derive(Default)]
pub struct Batch {
    /// Images, in the order of their files.
    pub images: Vec<Image>,
    /// Files that could not be read: name, and why.
    pub unreadable: Vec<(String, String)>,
    /// True once there are no more files.
    pub is_last: bool,
}

/// Reads files into batches.
pub struct Batches {
    sources: Sources,
    /// Read, and too large for the batch that it came to.
    next: Option<Image>,
}

impl Batches {
    /// Of these files.
    pub fn new(sources: Sources) -> Self {
        Self { sources, next: None }
    }

    /// Reads up to `images_max` files.
    ///
    /// # Errors
    /// Where the list of files cannot be read. A file that cannot be read is the batch's to tell.
    pub fn next(&mut self, images_max: usize) -> anyhow::Result<Batch> {
        let mut batch = Batch { images: self.next.take().into_iter().collect(), ..Batch::default() };
        while batch.images.len() + batch.unreadable.len() < images_max {
            let bytes: u64 = batch.images.iter().map(|image| image.bytes.len() as u64).sum();
            if bytes >= BATCH_BYTES {
                return Ok(batch);
            }
            let Some(path) = self.sources.next()? else {
                batch.is_last = true;
                return Ok(batch);
            };
            let name = name_of(&path);
            match read(&path) {
                Ok(read) if !batch.images.is_empty() && bytes + read.len() as u64 > BATCH_BYTES => {
                    self.next = Some(Image { name, bytes: read });
                    return Ok(batch);
                }
                Ok(bytes) => batch.images.push(Image { name, bytes }),
                Err(error) => batch.unreadable.push((name, format!("{error:#}"))),
            }
        }
        Ok(batch)
    }
}

/// The name that a file's result bears: its path as it was given, the end of it where it is too long.
fn name_of(path: &Path) -> String {
    let name = path.to_string_lossy();
    let mut begin = name.len().saturating_sub(NAME_BYTES_MAX);
    while !name.is_char_boundary(begin) {
        begin += 1;
    }
    name[begin..].to_owned()
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    // Before it is opened: a pipe that nobody writes would block that.
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        bail!("it is a folder");
    }
    if !metadata.is_file() {
        bail!("it is no regular file");
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(FILE_BYTES_MAX) as usize);
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("it has {} bytes, more than the {FILE_BYTES_MAX} that are read of an image", metadata.len());
    }
    if bytes.is_empty() {
        bail!("it is empty");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of files of these sizes, called 0, 1, …
    fn batches(folder: &Path, sizes: &[usize]) -> Batches {
        let file = |(number, bytes): (usize, &usize)| {
            let path = folder.join(number.to_string());
            fs::write(&path, vec![number as u8; *bytes]).expect("the test's own folder");
            path
        };
        let paths: Vec<_> = sizes.iter().enumerate().map(file).collect();
        Batches::new(Sources::Found(paths.into_iter()))
    }

    fn sizes(batch: &Batch) -> Vec<usize> {
        batch.images.iter().map(|image| image.bytes.len()).collect()
    }

    #[test]
    fn a_batch_is_bounded_in_images_and_in_bytes_and_no_file_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let large = BATCH_BYTES as usize;
        let mut batches = batches(folder.path(), &[1, 2, 3, large - 1, large + 5, 4]);
        let mut next = |images_max| batches.next(images_max).expect("files can be read");
        assert_eq!(sizes(&next(2)), [1, 2]);
        assert_eq!(sizes(&next(2)), [3], "the next one is too large for this batch");
        assert_eq!(sizes(&next(2)), [large - 1]);
        assert_eq!(sizes(&next(2)), [large + 5], "larger than a batch: alone");
        let last = next(2);
        assert_eq!((sizes(&last), last.is_last), (vec![4], true));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_name_and_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("folder")).expect("the test's own");
        fs::write(path("empty"), []).expect("the test's own");
        std::os::unix::net::UnixListener::bind(path("socket")).expect("the test's own");
        let paths = ["absent", "folder", "empty", "socket"].map(path);
        let mut batches = Batches::new(Sources::Found(Vec::from(paths).into_iter()));
        let batch = batches.next(9).expect("a batch");
        let why: Vec<&str> = batch.unreadable.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(
            why,
            ["No such file or directory (os error 2)", "it is a folder", "it is empty", "it is no regular file"]
        );
        assert!(batch.images.is_empty() && batch.is_last && batch.unreadable[0].0.ends_with("/absent"));
    }

    #[test]
    fn a_name_has_the_end_of_a_long_path_at_a_character() {
        assert_eq!(name_of(Path::new("a/b.jpg")), "a/b.jpg");
        let long = name_of(Path::new(&format!("{}ä{}", "x".repeat(100), "y".repeat(254))));
        assert_eq!(long, "y".repeat(254), "half of the character would be beyond the limit");
    }
}
