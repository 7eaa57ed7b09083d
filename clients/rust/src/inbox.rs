//! The inbox: the tmpfs directory through which images reach the server.
//!
//! The server makes the directory and owns its permissions. A blob holds the images of one push, one after another.
//! It appears under its name complete or not at all, is readable by a server of another user, and is never changed.

use std::{
    env, fs, io,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf, absolute},
};

use crate::{Error, backoff::random};

const DEFAULT: &str = "/dev/shm/framepipe-inbox";

/// `$FRAMEPIPE_INBOX`, or else `/dev/shm/framepipe-inbox`.
pub fn default_path() -> PathBuf {
    env::var_os("FRAMEPIPE_INBOX").filter(|path| !path.is_empty()).map_or_else(|| DEFAULT.into(), PathBuf::from)
}

/// The images of one push in one file of the inbox. Dropping it leaves the file: the server may read it later.
#[derive(Debug, Clone)]
pub struct Blob {
    pub path: PathBuf,
    pub sizes: Vec<u64>,
}

impl Blob {
    /// Writes the images into a file whose name begins with the stream's.
    pub fn write(inbox: &Path, stream: &str, images: &[&[u8]]) -> Result<Self, Error> {
        let failed = |why| Error::Inbox { path: inbox.to_owned(), why };
        let stream = if stream.is_empty() { "unnamed" } else { stream };
        let mut draft = tempfile::Builder::new()
            .prefix(&format!(".{stream}."))
            .suffix(".part")
            .rand_bytes(16)
            .tempfile_in(inbox)
            .map_err(failed)?;
        for image in images {
            draft.write_all(image).map_err(failed)?;
        }
        draft.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
        let name = format!("{stream}.{:016x}{:016x}.blob", random(), random());
        let path = absolute(inbox.join(name)).map_err(failed)?;
        draft.persist_noclobber(&path).map_err(|error| failed(error.error))?;
        Ok(Self { path, sizes: images.iter().map(|image| image.len() as u64).collect() })
    }

    /// Removes the file; it is no error that it is gone. Any other failure leaves it to who cleans the inbox.
    pub fn delete(&self) -> Result<(), io::Error> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
