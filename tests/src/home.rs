//! The folders of one test: nothing that it does can meet another's.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::TempDir;

use crate::repository;

/// Pipelines of one test file run one after the other: each wants the whole machine.
static TURN: Mutex<()> = Mutex::new(());

/// How the folders of a test begin.
const PREFIX: &str = "framepipe-test-";

/// True for a test's folder, this one's or another's.
pub fn is_a_test_folder(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
}

/// The folders of one test, removed with it.
pub struct Home {
    disk: TempDir,
    memory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// Waits for its turn and makes the folders.
    pub fn new() -> Self {
        // A test that failed has left nothing behind: its folders went with it.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = || tempfile::Builder::new().prefix(PREFIX).to_owned();
        let home = Self {
            disk: folder().tempdir().expect("a temporary folder"),
            memory: folder().tempdir_in("/dev/shm").expect("a folder in /dev/shm"),
            _turn: turn,
        };
        for made in [home.shm(), home.inbox(), home.temporary()] {
            fs::create_dir(made).expect("a folder of the test's own");
        }
        home
    }

    /// Holds the segment: `paths.shm`.
    pub fn shm(&self) -> PathBuf {
        self.memory.path().join("shm")
    }

    /// The inbox.
    pub fn inbox(&self) -> PathBuf {
        self.memory.path().join("inbox")
    }

    /// Sockets and lock: `paths.run`.
    pub fn run(&self) -> PathBuf {
        self.disk.path().join("run")
    }

    /// For temporary files, if a test gives it to its processes: `TMPDIR`.
    pub fn temporary(&self) -> PathBuf {
        self.disk.path().join("tmp")
    }

    /// The folders that hold all others.
    pub fn roots(&self) -> [&Path; 2] {
        [self.disk.path(), self.memory.path()]
    }

    /// A path of the test's own, on disk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.disk.path().join(name)
    }

    /// Stores a file in the inbox.
    pub fn store(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.inbox().join(name);
        fs::write(&path, bytes).expect("the inbox takes a file");
        path
    }

    /// What lies in the segment's folder and in the inbox.
    pub fn left_in_memory(&self) -> Vec<PathBuf> {
        let entries = [self.shm(), self.inbox()].map(|folder| fs::read_dir(folder).expect("the folder is there"));
        entries.into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect()
    }

    /// Writes a configuration: what `config` leaves out of paths and listeners is the test's own.
    pub fn configure(&self, config: &str) -> PathBuf {
        let mut table: toml::Table = config.parse().expect("the test's configuration is TOML");
        let root = repository();
        let defaults = [
            ("paths", "models", toml::Value::from(text(&root.join("models")))),
            ("paths", "onnxruntime", text(&root.join("build/lib/libonnxruntime.so")).into()),
            ("paths", "run", text(&self.run()).into()),
            ("paths", "state", text(&self.path("state")).into()),
            ("paths", "shm", text(&self.shm()).into()),
            ("server", "tcp", "".into()),
            ("server", "http", "".into()),
            ("server", "inbox", vec![text(&self.inbox())].into()),
        ];
        for (section, key, value) in defaults {
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            section.as_table_mut().expect("it is a section").entry(key).or_insert(value);
        }
        let path = self.path("config.toml");
        fs::write(&path, table.to_string()).expect("the configuration can be written");
        path
    }

    /// A model repository with one detector, whose manifest asks for another score threshold.
    pub fn models_with_threshold(&self, model: &str, threshold: &str, changes: &[(&str, &str)]) -> PathBuf {
        let (from, models) = (repository().join("models").join(model).join("1"), self.path("models"));
        let to = models.join(model).join("1");
        fs::create_dir_all(&to).expect("a folder of the test's own");
        let manifest = fs::read_to_string(from.join("manifest.toml")).expect("run scripts/setup: the model is missing");
        let changed = manifest.lines().map(|line| {
            let is_threshold = line.starts_with("score_threshold");
            if is_threshold { format!("score_threshold = {threshold}\n") } else { format!("{line}\n") }
        });
        let mut changed: String = changed.collect();
        for (from, to) in changes {
            assert!(changed.contains(from), "{model}'s manifest has no {from:?}");
            changed = changed.replace(from, to);
        }
        assert!(changed.contains(&format!("\nscore_threshold = {threshold}\n")), "{model} has no threshold");
        fs::write(to.join("manifest.toml"), changed).expect("the manifest can be written");
        std::os::unix::fs::symlink(from.join("model.onnx"), to.join("model.onnx")).expect("a link of the test's own");
        models
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("the tests' paths are UTF-8").to_owned()
}
