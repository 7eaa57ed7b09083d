//! Plans on disk, so that an engine is built once for each model, TensorRT and GPU, whatever the processes that want it.
//!
//! | file | what it holds |
//! |---|---|
//! | `PLACE-ENGINE.plan` | a plan, and its SHA-256 behind it |
//! | `PLACE.timings` | what builds measured so far, and its SHA-256 behind it |
//! | `PLACE.lock` | nothing: who builds holds a lock on it |
//! | `PLACE.new` | the file that the holder of the lock is writing; it is moved into place |
//!
//! `PLACE` is a hash of the TensorRT and the GPU; `ENGINE` one of all that an engine's choices depend on. One at a time builds for
//! a place: the others wait, and find its plan; two builds at once would measure one another. A builder that dies leaves its lock to
//! the next. A file whose sum is not its bytes' is made again.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use crate::{
    builder::{Plan, Precision},
    error::TrtError,
    library::Version,
    shape::Profile,
};

/// Bytes of all plans; beyond, the oldest are dropped.
const BYTES_MAX: u64 = 8 << 30;
/// Bytes of a sum.
const SUM_BYTES: usize = 32;
/// Hexadecimal digits of a place's hash in a name.
const PLACE_DIGITS: usize = 16;

/// A kind of GPU: engines fit all of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gpu {
    /// What the driver calls it, such as `Tesla T4`.
    pub name: String,
    /// Its compute capability, such as (7, 5).
    pub capability: (u32, u32),
}

/// All that an engine's choices depend on.
#[derive(Clone, Debug)]
pub struct EngineKey<'a> {
    /// The model file's sha256.
    pub model_sha256: &'a str,
    /// Who builds.
    pub tensorrt: Version,
    /// Where it is to run.
    pub gpu: &'a Gpu,
    /// The shapes it takes.
    pub profile: &'a Profile,
    /// Its numbers.
    pub precision: Precision,
    /// The memory that it may use.
    pub workspace_bytes: usize,
}

impl EngineKey<'_> {
    fn place(&self) -> String {
        hash(&format!("{} {:?}", self.tensorrt, self.gpu))[..PLACE_DIGITS].to_owned()
    }

    fn engine(&self) -> String {
        let Self { model_sha256, tensorrt, gpu, profile, precision, workspace_bytes } = self;
        hash(&format!("{model_sha256:?} {tensorrt} {gpu:?} {profile:?} {precision:?} {workspace_bytes}"))
    }
}

/// What [`EngineCache::get_or_build`] gives.
#[derive(Debug)]
pub struct Entry {
    /// The plan.
    pub plan: Vec<u8>,
    /// Whether it was built now.
    pub is_new: bool,
    /// Why it could not be kept: the next start builds it again.
    pub unsaved: Option<io::Error>,
}

/// The plans of one folder.
#[derive(Clone, Debug)]
pub struct EngineCache {
    folder: PathBuf,
}

impl EngineCache {
    /// A cache in `folder`, which is made when the first plan is. It holds code: nobody else may write there.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The plan of this key, which `build` makes from the timings so far if there is none. Waits while another builds for the same
    /// TensorRT and GPU: minutes, and longer only than that one's life.
    ///
    /// # Errors
    /// [`TrtError::Cache`] when the folder cannot be used, before anything is built; what `build` says. A plan that cannot be kept
    /// is none: see [`Entry::unsaved`].
    pub fn get_or_build(
        &self,
        key: &EngineKey<'_>,
        build: impl FnOnce(&[u8]) -> Result<Plan, TrtError>,
    ) -> Result<Entry, TrtError> {
        let place = key.place();
        let file = self.folder.join(format!("{place}-{}.plan", key.engine()));
        let found = |plan| Entry { plan, is_new: false, unsaved: None };
        if let Some(plan) = read(&file) {
            return Ok(found(plan));
        }
        let _lock = self.lock(&self.folder.join(format!("{place}.lock")))?;
        if let Some(plan) = read(&file) {
            return Ok(found(plan)); // built while this one waited
        }
        let timings_file = self.folder.join(format!("{place}.timings"));
        let Plan { plan, timings } = build(&read(&timings_file).unwrap_or_default())?;
        let aside = self.folder.join(format!("{place}.new"));
        let unsaved = write(&aside, &file, &plan)
            .and_then(|()| if timings.is_empty() { Ok(()) } else { write(&aside, &timings_file, &timings) })
            .and_then(|()| self.tidy(&file))
            .err();
        Ok(Entry { plan, is_new: true, unsaved })
    }

    /// Takes the lock of a place. It is let go by the system with the file, and so with whoever dies.
    fn lock(&self, path: &Path) -> Result<File, TrtError> {
        let error = |source| TrtError::Cache { path: path.to_owned(), source };
        fs::create_dir_all(&self.folder).map_err(error)?;
        let file = File::options().create(true).append(true).open(path).map_err(error)?;
        file.lock().map_err(error)?;
        Ok(file)
    }

    /// Removes the oldest plans beyond the bound, but for `kept`.
    fn tidy(&self, kept: &Path) -> io::Result<()> {
        let mut plans: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
            if path.extension().is_some_and(|ending| ending == "plan") {
                plans.push((metadata.modified()?, metadata.len(), path));
            }
        }
        plans.sort();
        let mut bytes: u64 = plans.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, plan_bytes, path) in plans {
            if bytes > BYTES_MAX && path != kept {
                fs::remove_file(path)?;
                bytes -= plan_bytes;
            }
        }
        Ok(())
    }
}

/// What a file holds before its sum; `None` where it is missing or damaged.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    let at = bytes.len().checked_sub(SUM_BYTES)?;
    if Sha256::digest(&bytes[..at])[..] != bytes[at..] {
        return None;
    }
    bytes.truncate(at);
    Some(bytes)
}

/// Writes a file and its sum aside, and moves it into place.
fn write(aside: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(aside)?;
    file.write_all(bytes)?;
    file.write_all(&Sha256::digest(bytes))?;
    file.sync_all()?;
    fs::rename(aside, path)
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}"); // a String takes everything
        digits
    })
}

#[cfg(test)]
mod tests;
