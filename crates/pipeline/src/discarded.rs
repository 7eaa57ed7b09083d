//! Frames that an operator discarded (`framepipe up --discard`): the launcher notes them before it removes their segment,
//! and the gateway answers each with a typed error before it takes new ones.
//!
//! The file `discarded` in the state folder holds, for each frame, the run that accepted it (u64, native order) and its
//! [`Request`]. It is made aside and moved into place whole; the gateway removes it once the journal has every answer.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use framepipe_frame::Request;

const ENTRY_BYTES: usize = 8 + size_of::<Request>();

fn file(state: &Path) -> PathBuf {
    state.join("discarded")
}

/// Notes frames, beside those that no gateway has answered yet.
///
/// # Errors
/// What the operating system says; nothing was noted then.
pub fn note(state: &Path, run: u64, requests: &[Request]) -> io::Result<()> {
    let mut bytes = read_bytes(state)?;
    for request in requests {
        bytes.extend_from_slice(&run.to_ne_bytes());
        bytes.extend_from_slice(bytemuck::bytes_of(request));
    }
    let aside = state.join("discarded.new");
    fs::write(&aside, bytes)?;
    fs::rename(aside, file(state))
}

/// The frames noted, with the runs that accepted them.
///
/// # Errors
/// What the operating system says.
pub fn noted(state: &Path) -> io::Result<Vec<(u64, Request)>> {
    let bytes = read_bytes(state)?;
    let entry = |entry: &[u8]| {
        let (run, request) = entry.split_first_chunk::<8>().expect("an entry begins with a run");
        (u64::from_ne_bytes(*run), bytemuck::pod_read_unaligned(request))
    };
    // Another version's entries have another size: what is not whole is not ours.
    Ok(bytes.chunks_exact(ENTRY_BYTES).map(entry).collect())
}

/// Forgets them: all are answered.
///
/// # Errors
/// What the operating system says.
pub fn forget(state: &Path) -> io::Result<()> {
    match fs::remove_file(file(state)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_bytes(state: &Path) -> io::Result<Vec<u8>> {
    match fs::read(file(state)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn what_is_noted_twice_is_kept_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path();
        let request = |frame| Request { frame, ..Request::zeroed() };
        forget(state).expect("nothing is noted");
        note(state, 7, &[request(1), request(2)]).expect("noted");
        note(state, 8, &[request(1)]).expect("noted");
        let found: Vec<(u64, u64)> =
            noted(state).expect("read").iter().map(|(run, request)| (*run, request.frame)).collect();
        assert_eq!(found, [(7, 1), (7, 2), (8, 1)]);
        forget(state).expect("removed");
        assert!(noted(state).expect("read").is_empty());
    }
}
