//! What TensorRT says: handed on to whoever opened the library, and warnings and worse kept for the errors that follow them.

use std::{
    collections::VecDeque,
    ffi::{CStr, c_char, c_void},
    sync::{Mutex, PoisonError},
};

use crate::{
    error::TrtError,
    shim::{Api, RawLog},
};

/// Lines that an error has at most: the last ones.
const LINES_MAX: usize = 32;
/// Bytes of such a line at most.
const LINE_BYTES_MAX: usize = 1000;

/// How bad it is what TensorRT says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// It found a fault of its own.
    InternalError,
    /// It was asked what it cannot do.
    Error,
    /// It went on, and somebody should know.
    Warning,
    /// What it does.
    Info,
    /// What it does, in detail.
    Verbose,
}

impl Severity {
    fn from_raw(raw: i32) -> Self {
        match raw {
            0 => Self::InternalError,
            1 => Self::Error,
            2 => Self::Warning,
            3 => Self::Info,
            _ => Self::Verbose,
        }
    }
}

/// Where TensorRT's words go. It lives as long as the process: TensorRT keeps the pointer, and may speak until the very end.
pub(crate) struct Log {
    raw: *mut RawLog,
    ears: &'static Ears,
}

/// Takes a line, on any thread.
type Listener = Box<dyn Fn(Severity, &str) + Send + Sync>;

struct Ears {
    listener: Listener,
    lines: Mutex<VecDeque<String>>,
}

// SAFETY: the raw log has no state but the pointer to `ears`, which threads may share; TensorRT calls it from any of its own.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    /// A log that hands each line to `listener`, which any thread may call.
    pub(crate) fn new(
        api: &'static Api,
        listener: impl Fn(Severity, &str) + Send + Sync + 'static,
    ) -> Result<&'static Self, TrtError> {
        let ears: &'static Ears = Box::leak(Box::new(Ears { listener: Box::new(listener), lines: Mutex::default() }));
        // SAFETY: `hear` takes what it is given here, which is never freed.
        let raw = unsafe { (api.log_new)(hear, (&raw const *ears).cast()) };
        if raw.is_null() {
            return Err(TrtError::Refused { what: "make a log: no memory", lines: Vec::new() });
        }
        Ok(Box::leak(Box::new(Self { raw, ears })))
    }

    /// What TensorRT is given.
    pub(crate) fn raw(&self) -> *mut RawLog {
        self.raw
    }

    /// Forgets the lines kept: what is said from now on belongs to what is done now. With several threads at it, lines of one may
    /// stand in the error of another.
    pub(crate) fn forget(&self) {
        self.ears.lines.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The error of something that TensorRT refused to do, with its last words.
    pub(crate) fn refused(&self, what: &'static str) -> TrtError {
        let mut lines = self.ears.lines.lock().unwrap_or_else(PoisonError::into_inner);
        TrtError::Refused { what, lines: lines.drain(..).collect() }
    }
}

impl Ears {
    fn hear(&self, severity: Severity, text: &str) {
        if severity <= Severity::Warning {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(text[..text.floor_char_boundary(LINE_BYTES_MAX)].trim_end().to_owned());
        }
        (self.listener)(severity, text);
    }
}

/// Takes a line from C++. A listener that panics ends the process: no panic may pass through C++.
unsafe extern "C" fn hear(to: *const c_void, severity: i32, text: *const c_char) {
    // SAFETY: `to` is what `Log::new` gave, which is never freed.
    let ears = unsafe { &*to.cast::<Ears>() };
    // SAFETY: the shim hands over a C string, which lasts for this call.
    let text = unsafe { CStr::from_ptr(text) };
    ears.hear(Severity::from_raw(severity), &text.to_string_lossy());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_warnings_are_kept_cut_and_everything_is_handed_on() {
        let heard = std::sync::Arc::new(Mutex::new(0));
        let counter = heard.clone();
        let ears =
            Ears { listener: Box::new(move |_, _| *counter.lock().expect("sound") += 1), lines: Mutex::default() };
        for number in 0..LINES_MAX + 5 {
            ears.hear(Severity::Info, "small talk");
            ears.hear(Severity::Warning, &format!("{number} {}", "ä".repeat(LINE_BYTES_MAX)));
        }
        let lines = ears.lines.lock().expect("sound");
        assert_eq!(*heard.lock().expect("sound"), 2 * (LINES_MAX + 5));
        assert_eq!(lines.len(), LINES_MAX);
        assert!(lines[0].starts_with("5 ") && lines.iter().all(|line| line.len() <= LINE_BYTES_MAX), "{lines:?}");
    }
}
