//! What to push: images to be written into the inbox or uploaded, or files that the server reads where they are.

use std::time::Duration;

use framepipe_proto::v1::{Hold, PushDataRequest, RawFrameFormat};
use tonic::{Request, metadata::AsciiMetadataValue};

use crate::Error;

/// A batch, which the server accepts whole or not at all.
///
/// ```
/// # use framepipe_client::{Hold, PushRequest};
/// # use std::time::Duration;
/// let (a, b) = (vec![0xff, 0xd8], vec![0xff, 0xd8]);
/// PushRequest::images([&a, &b]).names(["a.jpg", "b.jpg"]).stream("cam-1").deadline(Duration::from_millis(500));
/// PushRequest::files(["/dev/shm/framepipe-inbox/a.jpg"]).hold(Hold::Copy);
/// ```
#[derive(Debug, Clone, Default)]
pub struct PushRequest<'a> {
    pub(crate) message: PushDataRequest,
    pub(crate) images: Option<Vec<&'a [u8]>>,
    pub(crate) wait: Duration,
    pub(crate) traceparent: String,
}

impl<'a> PushRequest<'a> {
    /// Encoded images, or raw frames together with [`raw`](Self::raw). `push` writes them as one file into the
    /// inbox and takes care of its end; `upload` sends them. They are named "image-INDEX" unless [`names`](Self::names) says otherwise.
    pub fn images<T: AsRef<[u8]> + ?Sized + 'a>(images: impl IntoIterator<Item = &'a T>) -> Self {
        Self { images: Some(images.into_iter().map(AsRef::as_ref).collect()), ..Self::default() }
    }

    /// One file that holds the images one after another, and their sizes in bytes: an absolute path below one of
    /// the server's roots. The file stays the caller's, and unchanged until the results come.
    pub fn location(path: impl Into<String>, sizes: impl IntoIterator<Item = u64>) -> Self {
        let sizes = sizes.into_iter().collect();
        let message = PushDataRequest { location: path.into(), sizes, ..Default::default() };
        Self { message, ..Self::default() }
    }

    /// One file an image: absolute paths, as for [`location`](Self::location).
    pub fn files<T: Into<String>>(files: impl IntoIterator<Item = T>) -> Self {
        let files = files.into_iter().map(Into::into).collect();
        Self { message: PushDataRequest { files, ..Default::default() }, ..Self::default() }
    }

    /// Who keeps the images until their results come: the client ([`Hold::Reference`], the default), or framepipe, which
    /// copies them before the call returns ([`Hold::Copy`]): then the files may be removed at once. Of
    /// [`images`](Self::images), `push` itself removes their file then. An upload is kept by framepipe in any case.
    pub fn hold(mut self, hold: Hold) -> Self {
        self.message.hold = hold.into();
        self
    }

    /// Names that the results bear, one an image.
    pub fn names<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.message.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// The stream that takes the results. Without one the server makes a stream and names it in the answer.
    pub fn stream(mut self, stream: impl Into<String>) -> Self {
        self.message.stream = stream.into();
        self
    }

    /// How long after acceptance a frame may wait for its detection before it is answered with an error instead.
    /// Rounded up to milliseconds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.message.deadline_ms = u64::try_from(deadline.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        self
    }

    /// The same key gets the first call's answer and enqueues nothing again. Without one each push has a key of its
    /// own, so that the repeats which `push` makes while the server is away enqueue nothing twice.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.message.idempotency_key = key.into();
        self
    }

    /// The images are raw frames of this geometry.
    ///
    /// ```
    /// # use framepipe_client::{PixelFormat, PushRequest, RawFrameFormat};
    /// let planes = vec![128; 640 * 480 * 3 / 2]; // luma, then pairs of U and V
    /// let raw = RawFrameFormat { format: PixelFormat::Nv12.into(), width: 640, height: 480, stride: 0 };
    /// PushRequest::images([&planes]).raw(raw);
    /// ```
    pub fn raw(mut self, format: RawFrameFormat) -> Self {
        self.message.raw = Some(format);
        self
    }

    /// The span that this push belongs to, as W3C's Trace Context writes it (`00-TRACE_ID-SPAN_ID-FLAGS`): the spans of its
    /// frames are that one's children, and are recorded if its flags say so. See `[traces]` of the server's configuration.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = traceparent.into();
        self
    }

    /// How long to wait for room while the server is at its limit, before
    /// [`Overloaded`](crate::Error::Overloaded). The server keeps the call's turn meanwhile.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

/// The header of W3C's Trace Context that is sent with a call; none, where no span was named.
pub(crate) fn trace(traceparent: &str) -> Result<Option<AsciiMetadataValue>, Error> {
    if traceparent.is_empty() {
        return Ok(None);
    }
    let invalid = |_| Error::InvalidRequest(format!("traceparent {traceparent:?} is no text of ASCII"));
    traceparent.parse().map(Some).map_err(invalid)
}

/// A call's message, with that header.
pub(crate) fn in_trace<T>(message: T, trace: Option<&AsciiMetadataValue>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(trace) = trace {
        request.metadata_mut().insert("traceparent", trace.clone());
    }
    request
}
