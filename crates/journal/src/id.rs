//! The name of a stream: 1 to 64 of `A-Z a-z 0-9 _ -`, and so a safe file name as well.

use std::{fmt, sync::Arc};

/// Longest name of a stream, in bytes.
pub const STREAM_ID_BYTES_MAX: usize = 64;

/// A checked name of a stream. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(Arc<str>);

/// Why a text is no name of a stream. The text itself is a client's, of any length, and is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamIdError {
    /// Empty or too long.
    #[error("a stream id of {bytes} bytes: give it 1 to {STREAM_ID_BYTES_MAX}")]
    Length {
        /// Its bytes.
        bytes: usize,
    },
    /// A character outside the alphabet.
    #[error("a stream id with {found:?} at byte {at}: use only A-Z, a-z, 0-9, '_' and '-'")]
    Character {
        /// The first such character.
        found: char,
        /// Its place in the id, in bytes.
        at: usize,
    },
}

impl StreamId {
    /// Checks a name.
    ///
    /// # Errors
    /// [`StreamIdError`], where it is empty, too long or outside the alphabet.
    pub fn new(id: &str) -> Result<Self, StreamIdError> {
        if id.is_empty() || id.len() > STREAM_ID_BYTES_MAX {
            return Err(StreamIdError::Length { bytes: id.len() });
        }
        match id.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || *c == '_' || *c == '-')) {
            Some((at, found)) => Err(StreamIdError::Character { found, at }),
            None => Ok(Self(id.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_short_names_are_stream_ids() {
        for good in ["a", "camera-7_B", "lock", &"x".repeat(64)] {
            assert_eq!(StreamId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", &"x".repeat(65), "..", "a/b", "a b", "ä", "a\0", ".dropped-a"] {
            assert!(StreamId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(StreamId::new("ab/c"), Err(StreamIdError::Character { found: '/', at: 2 }));
    }
}
