//! The ONNX Runtime library: one file, loaded once a process, never unloaded.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::{InferError, graph_cache::GraphCache};

/// The engine allows one environment a process, and none after the first is gone: so the first stays.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// The ONNX Runtime library, loaded. Clones are the same one.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) environment: Environment,
    library: PathBuf,
    pub(crate) graphs: Option<GraphCache>,
}

impl Runtime {
    /// Loads the library file, or takes the one that the process has loaded from there before.
    ///
    /// # Errors
    /// When the file is missing or is no ONNX Runtime of the right version, or when another one is loaded.
    pub fn load(library: &Path) -> Result<Self, InferError> {
        let library = library.canonicalize().map_err(|_| InferError::MissingLibrary { path: library.to_owned() })?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            if runtime.library == library {
                return Ok(runtime.clone());
            }
            return Err(InferError::OtherLibrary { loaded: runtime.library.clone(), asked: library });
        }
        let refused = |reason: String| InferError::Library { path: library.clone(), reason };
        let builder = ort::init_from(&library).map_err(|error| refused(error.to_string()))?;
        let environment =
            builder.with_name("framepipe").with_telemetry(false).build().map_err(|error| refused(error.to_string()))?;
        // Its errors come back as values; logging them too would say everything twice.
        environment.set_log_level(LogLevel::Fatal);
        let runtime = Self { environment, library, graphs: None };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// The same, with a folder for optimised graphs: a model that was opened before is not optimised again.
    pub fn caching_graphs_in(self, folder: PathBuf) -> Self {
        Self { graphs: Some(GraphCache::new(folder, ort::info())), ..self }
    }

    /// What the library says of its own build.
    pub fn version(&self) -> &'static str {
        ort::info()
    }

    /// The library file.
    pub fn library(&self) -> &Path {
        &self.library
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("library", &self.library).finish_non_exhaustive()
    }
}
