//! The errors of the client: one variant for each thing that a caller can do about one. A frame that the server
//! accepted and could not process is no error: it is a result whose outcome is one.

use std::{error::Error as _, io, path::PathBuf, time::Duration};

use tonic::{Code, Status};

/// Any error of this client. The messages are the server's own where it answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be so: an address, sizes, names, a stream id, raw geometry. Trying again is in vain.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// There is no such file, or no such stream yet.
    #[error("not found: {0}")]
    NotFound(String),
    /// The location lies outside the roots that the server reads, or is a symlink.
    #[error("permission denied: {0}")]
    PermissionDenied(String),
    /// The server is at a limit that its message names. Read and acknowledge results, then push again.
    #[error("the server is at its limit: {message}")]
    Overloaded {
        /// Which limit, and what to do about it.
        message: String,
        /// When the server advises to try again.
        retry_after: Option<Duration>,
    },
    /// Nobody listens at the address, or who listens there is no framepipe: nothing was sent. A push with an idempotency key of
    /// the caller's own fails with [`Unavailable`](Self::Unavailable) instead: an earlier one with that key may have been sent.
    #[error("no framepipe answers: {0}")]
    Unreachable(String),
    /// No server answers any more, or it is draining. A push may have been accepted all the same.
    #[error("framepipe is unavailable: {0}")]
    Unavailable(String),
    /// Another reader took over the stream: a stream has one reader, and the newest wins.
    #[error("another reader took over the stream: {0}")]
    ReaderReplaced(String),
    /// The inbox, through which images reach the server, is absent or not writable.
    #[error(
        "cannot write into the inbox {}: {why}. The server makes it: start framepipe on this host, or name \
         its inbox with Client::with_inbox or $FRAMEPIPE_INBOX", path.display()
    )]
    Inbox {
        /// The inbox directory.
        path: PathBuf,
        /// What went wrong there.
        why: io::Error,
    },
    /// Any other status that the server answered with.
    #[error("the server failed: {0}")]
    Server(Box<Status>),
}

impl Error {
    pub(crate) fn from_status(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument => Self::InvalidRequest(message),
            Code::NotFound => Self::NotFound(message),
            Code::PermissionDenied => Self::PermissionDenied(message),
            Code::ResourceExhausted => Self::Overloaded { message, retry_after: retry_after(&status) },
            Code::Aborted => Self::ReaderReplaced(message),
            _ if is_broken_connection(&status) => Self::Unavailable(message),
            _ => Self::Server(Box::new(status)),
        }
    }

    /// Whether nothing was accepted for certain: the server has said so, or was not asked at all.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Unavailable(_) | Self::Server(_))
    }

    /// The same of a push that may have been sent before: that nobody is there now does not say that nothing was accepted.
    pub(crate) fn of_one_sent_before(self) -> Self {
        match self {
            Self::Unreachable(why) => Self::Unavailable(why),
            other => other,
        }
    }
}

/// The server's advice when to try again: gRPC's own trailer, in milliseconds.
fn retry_after(status: &Status) -> Option<Duration> {
    let ms = status.metadata().get("grpc-retry-pushback-ms")?.to_str().ok()?;
    ms.parse().ok().map(Duration::from_millis)
}

/// Whether a call failed on its way, so that the same call may succeed over a new connection. What a transport
/// reports has a source, what a server answers has none.
pub(crate) fn is_broken_connection(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded) || status.source().is_some()
}
