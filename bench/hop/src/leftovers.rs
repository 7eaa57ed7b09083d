//! What a run has in /dev/shm, by its pid: `framepipe-hop-PID` and more. A run that was killed leaves it to the next one.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the segment, and iceoryx2's memory, lie.
pub const FOLDER: &str = "/dev/shm";
const NAME: &str = "framepipe-hop-";

/// The beginning of the names of all that the run of this process has.
pub fn prefix() -> String {
    format!("{NAME}{}_", std::process::id())
}

/// Removes what runs had whose processes are dead.
pub fn remove_of_the_dead() {
    for path in of(|pid| !lives(pid)) {
        // Gone already, or another user's: then it is not in the way.
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
}

/// Removes the files of this run, and leaves its folder.
pub fn remove_own_files() {
    for path in of(|pid| pid == std::process::id()) {
        let _ = fs::remove_file(path); // a folder is none
    }
}

fn of(is_left: impl Fn(u32) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    entries
        .filter(|entry| pid(&entry.file_name().to_string_lossy()).is_some_and(&is_left))
        .map(|entry| entry.path())
        .collect()
}

fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn pid(name: &str) -> Option<u32> {
    name.strip_prefix(NAME)?.split_once('_')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        assert_eq!(pid(&format!("{}x", prefix())), Some(std::process::id()));
        assert!(lives(std::process::id()));
        assert_eq!([pid("framepipe-street"), pid("framepipe-hop-1"), pid("framepipe-hop-a_")], [None; 3]);
    }
}
