//! What can be wrong with one frame. A frame's error travels in its descriptor and reaches its client as the
//! frame's result; it needs no slot and disturbs no other frame.

/// Why a frame has no detections. The numbers are those of `framepipe.v1.ErrorCode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// The source file was removed after it was accepted.
    SourceGone = 1,
    /// The source file was rewritten, truncated or replaced after it was accepted.
    SourceChanged = 2,
    /// The bytes are of no image format that framepipe reads.
    UnsupportedFormat = 3,
    /// The image's bytes are truncated or corrupt.
    CorruptImage = 4,
    /// The image exceeds the limits on pixels, sides, scans or CPU time, or no slot class holds it.
    ImageTooLarge = 5,
    /// The frame's deadline passed before detection began.
    DeadlineExceeded = 6,
    /// The frame killed the process that worked on it, more often than `attempts_max`.
    Poison = 7,
    /// The inference engine refused the frame.
    Inference = 8,
    /// The result exceeds `result_bytes_max`.
    ResultTooLarge = 9,
    /// A bug in framepipe: a record that failed its check.
    Internal = 10,
    /// The operator discarded the frame with a segment that could not be adopted.
    Discarded = 11,
    /// The bytes that framepipe kept of the image, or of its tensor or result, were damaged or are gone.
    StoreDamaged = 12,
}

impl ErrorCode {
    /// Every code, in order.
    pub const ALL: [ErrorCode; 12] = [
        ErrorCode::SourceGone,
        ErrorCode::SourceChanged,
        ErrorCode::UnsupportedFormat,
        ErrorCode::CorruptImage,
        ErrorCode::ImageTooLarge,
        ErrorCode::DeadlineExceeded,
        ErrorCode::Poison,
        ErrorCode::Inference,
        ErrorCode::ResultTooLarge,
        ErrorCode::Internal,
        ErrorCode::Discarded,
        ErrorCode::StoreDamaged,
    ];

    /// Its name as metrics have it: that of the protocol, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::SourceGone => "source_gone",
            ErrorCode::SourceChanged => "source_changed",
            ErrorCode::UnsupportedFormat => "unsupported_format",
            ErrorCode::CorruptImage => "corrupt_image",
            ErrorCode::ImageTooLarge => "image_too_large",
            ErrorCode::DeadlineExceeded => "deadline_exceeded",
            ErrorCode::Poison => "poison",
            ErrorCode::Inference => "inference",
            ErrorCode::ResultTooLarge => "result_too_large",
            ErrorCode::Internal => "internal",
            ErrorCode::Discarded => "discarded",
            ErrorCode::StoreDamaged => "store_damaged",
        }
    }

    /// The code of this number; `None` for 0 (no error) and for numbers of no code.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u32 == number)
    }
}

/// A frame's error: what was wrong, with the value, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct FrameError {
    /// The kind of error, for programs.
    pub code: ErrorCode,
    /// The words, for people.
    pub message: String,
}

impl FrameError {
    /// An error of `code` with its words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A record in a slot that contradicts itself: a bug, or a foreign process's write.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{record} record: {what}")]
pub struct RecordError {
    /// Which record.
    pub record: &'static str,
    /// What was wrong with it.
    pub what: String,
}

impl RecordError {
    pub(crate) fn new(record: &'static str, what: impl Into<String>) -> Self {
        Self { record, what: what.into() }
    }
}

impl From<RecordError> for FrameError {
    fn from(error: RecordError) -> Self {
        FrameError::new(ErrorCode::Internal, error.to_string())
    }
}
