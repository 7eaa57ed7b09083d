//! Optimised graphs on disk, so that a session of a model that was opened before is made without optimising it again.
//!
//! An entry is a file whose name tells what it was made of and what it holds: `MODEL-ENGINE-BYTES-CRC.onnx`. `MODEL` is the model
//! file's sha256; `ENGINE` a hash of all that the optimiser's choices depend on: the library and this CPU's instructions. An entry
//! is written aside and moved into place; one whose bytes are not those that its name tells is removed. It makes a start faster,
//! and no failure of it is one of the start.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

/// Bytes of all entries; beyond, the oldest are dropped.
const BYTES_MAX: u64 = 4 << 30;
/// Ends the name of an entry that is being written, behind its writer's pid.
const ASIDE: &str = "new";
/// Hexadecimal digits of the engine's hash in a name.
const ENGINE_DIGITS: usize = 16;

/// The optimised graphs of one folder.
#[derive(Clone, Debug)]
pub struct GraphCache {
    folder: PathBuf,
    engine: String,
}

/// An optimised graph that is to be written.
pub(crate) struct Draft<'c> {
    cache: &'c GraphCache,
    model: String,
    /// Where the engine writes it.
    pub(crate) path: PathBuf,
}

impl GraphCache {
    /// A cache in `folder`, which is made when the first entry is; `library` says which build of the engine it is.
    pub(crate) fn new(folder: PathBuf, library: &str) -> Self {
        let sum = Sha256::digest(format!("{library}; {}", instructions()));
        let engine: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { folder, engine: engine[..ENGINE_DIGITS].to_owned() }
    }

    /// The optimised graph of the model whose file has this sha256.
    pub(crate) fn find(&self, model: &str) -> Option<Vec<u8>> {
        let prefix = format!("{model}-{}-", self.engine);
        let entries = fs::read_dir(&self.folder).ok()?.flatten();
        let mut paths = entries
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)))
            .map(|entry| entry.path());
        paths.find_map(|path| {
            let bytes = fs::read(&path).ok()?;
            if path.file_name()?.to_str()? == self.name(model, &bytes) {
                return Some(bytes);
            }
            let _ = fs::remove_file(&path); // damaged, or being moved: it is made again
            None
        })
    }

    /// A place for the optimised graph of a model; `None` where there can be none.
    pub(crate) fn draft(&self, model: &str) -> Option<Draft<'_>> {
        fs::create_dir_all(&self.folder).ok()?;
        let name = format!("{model}-{}.{}.{ASIDE}", self.engine, process::id());
        Some(Draft { cache: self, model: model.to_owned(), path: self.folder.join(name) })
    }

    fn name(&self, model: &str, bytes: &[u8]) -> String {
        format!("{model}-{}-{}-{:08x}.onnx", self.engine, bytes.len(), crc32fast::hash(bytes))
    }

    /// Removes what dead writers left, and the oldest entries beyond the bound.
    fn tidy(&self) -> io::Result<()> {
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
            if writer(&path).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                fs::remove_file(path)?;
            } else if path.extension().is_some_and(|ending| ending == "onnx") {
                entries.push((metadata.modified()?, metadata.len(), path));
            }
        }
        entries.sort();
        let mut bytes: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, entry_bytes, path) in entries {
            if bytes <= BYTES_MAX {
                break;
            }
            fs::remove_file(path)?;
            bytes -= entry_bytes;
        }
        Ok(())
    }
}

impl Draft<'_> {
    /// Makes an entry of what the engine wrote.
    pub(crate) fn finish(self) -> io::Result<()> {
        let bytes = fs::read(&self.path)?;
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, self.cache.folder.join(self.cache.name(&self.model, &bytes)))?;
        self.cache.tidy()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // moved already, or of no use
    }
}

/// The pid of an unfinished entry's writer.
fn writer(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_suffix(ASIDE)?.strip_suffix('.')?;
    name.rsplit_once('.').map(|(_, pid)| pid)
}

/// The instructions of this CPU, on which the optimiser's layouts depend.
fn instructions() -> String {
    let flags = |text: String| {
        text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features")).map(str::to_owned)
    };
    fs::read_to_string("/proc/cpuinfo").ok().and_then(flags).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path) -> GraphCache {
        GraphCache::new(folder.join("graphs"), "an engine")
    }

    fn put(cache: &GraphCache, model: &str, bytes: &[u8]) {
        let draft = cache.draft(model).expect("a folder of the test's own");
        fs::write(&draft.path, bytes).expect("it takes a file");
        draft.finish().expect("it is finished");
    }

    fn files(cache: &GraphCache) -> Vec<PathBuf> {
        fs::read_dir(&cache.folder).expect("the folder").flatten().map(|entry| entry.path()).collect()
    }

    #[test]
    fn an_entry_is_of_one_model_and_one_engine() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = cache(folder.path());
        assert_eq!(own.find("aa"), None, "there is no folder yet");
        put(&own, "aa", b"graph");
        put(&own, "ab", b"other");
        assert_eq!(own.find("aa").as_deref(), Some(&b"graph"[..]));
        assert_eq!(own.find("a"), None);
        assert_eq!(GraphCache::new(own.folder.clone(), "another engine").find("aa"), None);
    }

    #[test]
    fn a_damaged_entry_never_serves_and_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = cache(folder.path());
        for damage in [&b"grap"[..], b"gruph", b"", b"graph and more"] {
            put(&own, "aa", b"graph");
            fs::write(&files(&own)[0], damage).expect("it can be damaged");
            assert_eq!(own.find("aa"), None, "{damage:?}");
            assert_eq!(files(&own), [""; 0].map(PathBuf::from));
        }
    }

    #[test]
    fn what_a_dead_writer_left_is_removed_and_a_living_ones_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = cache(folder.path());
        let living = own.draft("aa").expect("a folder of the test's own");
        fs::write(&living.path, b"half").expect("it takes a file");
        fs::write(own.folder.join("ab-engine.4294967295.new"), b"half").expect("it takes a file");
        put(&own, "ac", b"graph");
        assert_eq!(files(&own).len(), 2, "{:?}", files(&own));
        drop(living);
        assert_eq!(files(&own).len(), 1, "a draft that is given up leaves nothing");
    }
}
