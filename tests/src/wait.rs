//! Waiting for a condition, with a deadline; and for what a signal does.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// For a process that was told to stop.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Looks again and again until there is something.
///
/// # Panics
/// When there is nothing after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for: {what}");
        thread::sleep(LOOK);
    }
}

/// Looks again and again until it is so.
///
/// # Panics
/// When it is not so after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut look: impl FnMut() -> bool) {
    wait_for(what, limit, || look().then_some(()));
}

/// True while there is such a process; a zombie is none.
pub fn is_alive(pid: u32) -> bool {
    state(Path::new(&format!("/proc/{pid}"))).is_some_and(|state| !"ZX".contains(state))
}

/// Sends a signal. Who is stopped runs nowhere when this returns: a process' other threads go on until one of them takes the signal.
///
/// # Panics
/// When there is no such process, or it does not stop.
pub fn send(pid: u32, signal: Signal) {
    assert_ne!(pid, 0, "a process that does not run");
    let raw = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    kill(raw, signal).unwrap_or_else(|error| panic!("{signal} to {pid}: {error}"));
    if signal == Signal::SIGSTOP {
        let tasks = || fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let runs = |task: &Path| state(task).is_some_and(|state| !"TtZX".contains(state));
        wait_until(&format!("{pid} to stop"), STOP_WAIT, || !tasks().any(|task| runs(&task.path())));
    }
}

/// The state of a process, or of a thread, by its folder in `/proc`.
fn state(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // It comes behind the name, which stands in brackets and may hold any character.
    stat.rsplit(')').next()?.trim_start().chars().next()
}
