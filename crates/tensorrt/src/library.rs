//! TensorRT's library: found, loaded, its version understood.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    driver::Driver,
    dynamic::{Loaded, function},
    error::TrtError,
    log::{Log, Severity},
    runtime::Runtime,
    shim::{self, Api, CreateInfer, CreateParser},
};

/// Names of the library, best first. The last one is a development package's, of any version.
const NAMES: [&str; 3] = ["libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so"];
/// Where Python's wheels put it, below `site-packages`.
const WHEEL_FOLDER: &str = "tensorrt_libs";

/// A version of TensorRT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// Which interface it has.
    pub major: u32,
    /// What was added to it.
    pub minor: u32,
    /// What was mended.
    pub patch: u32,
    /// The build of it; 0 of libraries that do not say.
    pub build: u32,
}

impl Version {
    /// From `getInferLibVersion`: until 9, 1000 for each major version and 100 for each minor; then 10000 and 100.
    fn from_raw(raw: u32, build: u32) -> Self {
        let major_step = if raw < 10_000 { 1000 } else { 10_000 };
        Self { major: raw / major_step, minor: raw % major_step / 100, patch: raw % 100, build }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.major, self.minor, self.patch, self.build)
    }
}

/// What makes engines: the builder's and the parser's functions.
#[derive(Clone, Copy)]
pub(crate) struct Builders {
    pub(crate) builder: CreateInfer,
    pub(crate) parser: CreateParser,
}

/// What all objects of a library need: the shim's functions for its version, and the log.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) api: &'static Api,
    pub(crate) log: &'static Log,
}

/// TensorRT's library. It stays loaded until the process ends, as does its log: open it once a process.
pub struct Library {
    path: PathBuf,
    version: Version,
    calls: Calls,
    create_runtime: CreateInfer,
    /// Or why it makes none.
    builders: Result<Builders, String>,
}

impl Library {
    /// Finds TensorRT and loads it. Each entry of `search` is a library file, a folder of libraries, or a Python environment's
    /// `site-packages`; after all of them, the loader is asked (`LD_LIBRARY_PATH`, `/etc/ld.so.cache`). The first library there
    /// is it: one that cannot be used is an error, and none is looked for behind it.
    ///
    /// Whatever TensorRT says is handed to `listener`, on any thread. TensorRT calls no GPU by being opened.
    ///
    /// # Errors
    /// [`TrtError::NotFound`], [`TrtError::CannotLoad`], [`TrtError::NotTensorRt`], [`TrtError::OtherVersion`];
    /// [`TrtError::NotBuilt`] always, when the build had no headers of TensorRT.
    pub fn open(
        search: &[PathBuf],
        listener: impl Fn(Severity, &str) + Send + Sync + 'static,
    ) -> Result<Self, TrtError> {
        if !shim::MAJORS.iter().all(|&major| shim::table(major).is_some()) {
            return Err(TrtError::NotBuilt);
        }
        let (path, loaded) = find(search)?;
        let not_tensorrt = |symbol| TrtError::NotTensorRt { path: path.clone(), symbol };
        let number = |name| {
            loaded.symbol(name).map(|address| {
                // SAFETY: getInferLibVersion and getInferLibBuildVersion have this type in every version of TensorRT.
                let ask = unsafe { function!(address => unsafe extern "C" fn() -> i32) };
                // SAFETY: it takes nothing and returns a constant; it needs no driver.
                u32::try_from(unsafe { ask() }).unwrap_or(0)
            })
        };
        let raw = number(c"getInferLibVersion").ok_or_else(|| not_tensorrt("getInferLibVersion"))?;
        let version = Version::from_raw(raw, number(c"getInferLibBuildVersion").unwrap_or(0));
        let api =
            shim::table(version.major).ok_or_else(|| TrtError::OtherVersion { path: path.clone(), found: version })?;
        let create_runtime =
            loaded.symbol(c"createInferRuntime_INTERNAL").ok_or_else(|| not_tensorrt("createInferRuntime_INTERNAL"))?;
        // SAFETY: it has this type in the versions that the shim is written for.
        let create_runtime = unsafe { function!(create_runtime => CreateInfer) };
        let builders = find_builders(loaded, &path, version);
        let calls = Calls { api, log: Log::new(api, listener)? };
        Ok(Self { path, version, calls, create_runtime, builders })
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its file; a bare name when the loader found it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it makes engines, or only runs them: the lean runtime, or no parser beside it.
    pub fn can_build(&self) -> bool {
        self.builders.is_ok()
    }

    /// Starts what runs engines.
    ///
    /// # Errors
    /// [`TrtError::Refused`].
    pub fn runtime(&self, _driver: Driver) -> Result<Runtime, TrtError> {
        Runtime::new(self.calls, self.create_runtime)
    }

    pub(crate) fn calls(&self) -> Calls {
        self.calls
    }

    pub(crate) fn builders(&self) -> Result<Builders, TrtError> {
        self.builders.clone().map_err(|reason| TrtError::CannotBuild { version: self.version, reason })
    }
}

/// The first library there is.
fn find(search: &[PathBuf]) -> Result<(PathBuf, Loaded), TrtError> {
    let mut looked = Vec::new();
    for entry in search {
        let files = if entry.is_file() {
            vec![entry.clone()]
        } else {
            let in_folder = |folder: &Path| NAMES.map(|name| folder.join(name));
            [in_folder(entry), in_folder(&entry.join(WHEEL_FOLDER))].concat()
        };
        for path in files {
            if !path.exists() {
                looked.push(path.display().to_string());
                continue;
            }
            // A path, never a bare name that the loader would look for elsewhere.
            let path = std::path::absolute(&path).unwrap_or(path);
            return match Loaded::open(&path) {
                Ok(loaded) => Ok((path, loaded)),
                Err(reason) => Err(TrtError::CannotLoad { path, reason }),
            };
        }
    }
    for name in NAMES {
        match Loaded::open(Path::new(name)) {
            Ok(loaded) => return Ok((PathBuf::from(name), loaded)),
            Err(reason) => looked.push(reason),
        }
    }
    Err(TrtError::NotFound { looked })
}

/// The functions that make engines: the builder's in the library, the parser's in another of the same version, beside it or where
/// the loader finds it.
fn find_builders(library: Loaded, path: &Path, version: Version) -> Result<Builders, String> {
    let builder = library
        .symbol(c"createInferBuilder_INTERNAL")
        .ok_or_else(|| format!("{} is a runtime alone", path.display()))?;
    let name = format!("libnvonnxparser.so.{}", version.major);
    let beside = path.parent().map(|folder| folder.join(&name)).filter(|file| file.is_file());
    let parser = Loaded::open(&beside.unwrap_or_else(|| PathBuf::from(&name)))?;
    let create = parser
        .symbol(c"createNvOnnxParser_INTERNAL")
        .ok_or_else(|| format!("{name} is no parser: it lacks createNvOnnxParser_INTERNAL"))?;
    Ok(Builders {
        // SAFETY: it has this type in the versions that the shim is written for.
        builder: unsafe { function!(builder => CreateInfer) },
        // SAFETY: as above.
        parser: unsafe { function!(create => CreateParser) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_both_ways_of_writing_them() {
        let words = |raw| Version::from_raw(raw, 0).to_string();
        assert_eq!([101_601, 110_400, 100_000].map(words), ["10.16.1.0", "11.4.0.0", "10.0.0.0"]);
        assert_eq!([8601, 9300].map(words), ["8.6.1.0", "9.3.0.0"]);
    }
}
