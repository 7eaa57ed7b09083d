use std::{
    fs::{self, File},
    io::Write,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, symlink},
    },
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use bytemuck::Zeroable;
use framepipe_frame::Text;
use rustix::fs::{CWD, mkfifoat};
use tempfile::TempDir;

use super::*;

/// A root with the accepted file `folder/image`.
struct Inbox {
    folder: TempDir,
    root: File,
    request: Request,
}

impl Inbox {
    /// The request is for the `bytes` bytes at `offset` of a file that holds `content`.
    fn with(content: &[u8], offset: u64, bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder/image");
        fs::create_dir(folder.path().join("folder")).unwrap();
        fs::write(&path, content).unwrap();
        // Long ago: any later write has another time, however coarse the file system's clock.
        File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH + Duration::from_nanos(1234)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let request = Request {
            path: Text::truncated("folder/image"),
            offset,
            bytes,
            source_device: metadata.dev(),
            source_inode: metadata.ino(),
            source_bytes: metadata.len(),
            source_mtime_ns: 1234,
            ..Request::zeroed()
        };
        let root = File::open(folder.path()).unwrap();
        Self { folder, root, request }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("folder/image")
    }

    fn open(&self) -> Result<OpenFile, FrameError> {
        OpenFile::open(self.root.as_fd(), &self.request)
    }

    fn read(&self) -> Result<Vec<u8>, FrameError> {
        let mut bytes = vec![0; self.request.bytes as usize];
        self.open()?.source(&self.request).read(&mut bytes)?;
        Ok(bytes)
    }

    fn expect_changed(&self, word: &str) {
        let error = self.read().unwrap_err();
        assert_eq!(error.code, ErrorCode::SourceChanged, "{error}");
        assert!(error.message.starts_with("folder/image ") && error.message.contains(word), "{error}");
    }
}

#[test]
fn the_requests_part_of_an_unchanged_file_is_read() {
    assert_eq!(Inbox::with(b"..image..", 2, 5).read().unwrap(), b"image");
    assert_eq!(Inbox::with(b"image", 0, 5).read().unwrap(), b"image");
}

#[test]
fn an_open_file_serves_the_next_frame_of_it_and_no_other() {
    let inbox = Inbox::with(b"12345image", 0, 5);
    let mut bytes = vec![0; 5];
    let (file, next) = (inbox.open().unwrap(), Request { offset: 5, ..inbox.request });
    file.source(&inbox.request).read(&mut bytes).unwrap();
    assert_eq!(bytes, b"12345");
    for other in [
        Request { root: 1, ..next },
        Request { path: Text::truncated("folder/other"), ..next },
        Request { source_inode: next.source_inode + 1, ..next },
        Request { source_device: next.source_device + 1, ..next },
    ] {
        assert!(!file.is_of(&other));
    }
    assert!(file.is_of(&next));
    fs::remove_file(inbox.path()).unwrap();
    file.source(&next).read(&mut bytes).unwrap();
    assert_eq!(bytes, b"image", "the accepted bytes, though their path is gone");

    let inbox = Inbox::with(b"image", 0, 5);
    let file = inbox.open().unwrap();
    fs::write(inbox.path(), b"other").unwrap();
    let error = file.source(&inbox.request).read(&mut bytes).unwrap_err();
    assert_eq!(error.code, ErrorCode::SourceChanged, "{error}");
}

#[test]
fn a_removed_file_is_gone() {
    let inbox = Inbox::with(b"image", 0, 5);
    fs::remove_file(inbox.path()).unwrap();
    assert_eq!(inbox.read().unwrap_err().code, ErrorCode::SourceGone);
    fs::remove_dir(inbox.path().parent().unwrap()).unwrap();
    assert_eq!(inbox.read().unwrap_err().code, ErrorCode::SourceGone);
}

#[test]
fn a_symbolic_link_is_not_followed_even_within_the_root() {
    let inbox = Inbox::with(b"image", 0, 5);
    fs::rename(inbox.path(), inbox.folder.path().join("real")).unwrap();
    symlink("../real", inbox.path()).unwrap();
    inbox.expect_changed("symbolic link");
}

#[test]
fn a_linked_folder_on_the_way_is_not_followed() {
    let inbox = Inbox::with(b"image", 0, 5);
    fs::rename(inbox.folder.path().join("folder"), inbox.folder.path().join("real")).unwrap();
    symlink("real", inbox.folder.path().join("folder")).unwrap();
    inbox.expect_changed("symbolic link");
}

#[test]
fn a_path_out_of_the_root_is_refused() {
    let mut inbox = Inbox::with(b"image", 0, 5);
    for path in ["../../etc/passwd", "/etc/passwd", "folder/../../x"] {
        inbox.request.path = Text::truncated(path);
        assert_eq!(inbox.read().unwrap_err().code, ErrorCode::SourceChanged, "{path}");
    }
}

#[test]
fn a_fifo_is_refused_at_once() {
    let inbox = Inbox::with(b"image", 0, 5);
    fs::remove_file(inbox.path()).unwrap();
    mkfifoat(CWD, inbox.path(), Mode::RUSR | Mode::WUSR).unwrap();
    inbox.expect_changed("Fifo");
}

#[test]
fn a_folder_is_refused() {
    let inbox = Inbox::with(b"image", 0, 5);
    fs::remove_file(inbox.path()).unwrap();
    fs::create_dir(inbox.path()).unwrap();
    inbox.expect_changed("Directory");
}

#[test]
fn a_truncated_file_has_changed() {
    let inbox = Inbox::with(b"image", 0, 5);
    File::options().write(true).open(inbox.path()).unwrap().set_len(3).unwrap();
    inbox.expect_changed("size in bytes was 5 when accepted, and is 3");
}

#[test]
fn a_replaced_file_has_changed() {
    let inbox = Inbox::with(b"image", 0, 5);
    fs::write(inbox.folder.path().join("new"), b"other").unwrap();
    fs::rename(inbox.folder.path().join("new"), inbox.path()).unwrap();
    inbox.expect_changed("inode was");
}

#[test]
fn a_file_rewritten_with_the_same_size_has_changed() {
    let inbox = Inbox::with(b"image", 0, 5);
    File::options().write(true).open(inbox.path()).unwrap().write_all(b"other").unwrap();
    inbox.expect_changed("modification time in ns was 1234");
}

#[test]
fn what_changes_after_the_opening_is_seen_after_the_reading() {
    let mut bytes = [0; 5];
    let inbox = Inbox::with(b"image", 0, 5);
    let source = inbox.open().unwrap();
    File::options().write(true).open(inbox.path()).unwrap().write_all(b"other").unwrap();
    let error = source.source(&inbox.request).read(&mut bytes).unwrap_err();
    assert!(error.code == ErrorCode::SourceChanged && error.message.contains("modification time"), "{error}");

    let inbox = Inbox::with(b"image", 0, 5);
    let source = inbox.open().unwrap();
    File::options().write(true).open(inbox.path()).unwrap().set_len(3).unwrap();
    let error = source.source(&inbox.request).read(&mut bytes).unwrap_err();
    assert!(error.code == ErrorCode::SourceChanged && error.message.contains("ended 3 bytes into"), "{error}");
}

#[test]
fn a_request_beyond_the_files_end_is_an_error() {
    for (offset, bytes) in [(3, 5), (6, 1), (u64::MAX, 1)] {
        let error = Inbox::with(b"image", offset, bytes).read().unwrap_err();
        assert_eq!(error.code, ErrorCode::SourceChanged, "{offset}, {bytes}: {error}");
    }
}

#[test]
fn a_root_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(open_root(folder.path()).is_ok());
    let message = open_root(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(message.contains("/absent: ") && message.contains("server.inbox"), "{message}");
    fs::write(folder.path().join("file"), b"").unwrap();
    assert!(open_root(&folder.path().join("file")).is_err(), "a file is no root");
}
