//! What can be known of a PushData call, or an upload, from its words alone: no file is touched here.

use framepipe_frame::{KEY_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, RawFormat, RawFrame};
use framepipe_proto::v1::{Hold, PixelFormat, PushDataRequest, RawFrameFormat};
use tonic::Status;

/// Longest time that a call may wait for room.
const WAIT_MS_MAX: u64 = 60_000;

/// A call whose words make sense.
#[derive(Debug, PartialEq)]
pub struct Checked {
    /// The frames, in order.
    pub frames: Vec<CheckedFrame>,
    /// The files that they lie in; of an upload, none.
    pub files: Vec<String>,
    /// Where the bytes come from.
    pub origin: Origin,
    /// Geometry of raw frames; zeroed: encoded images.
    pub raw: RawFrame,
}

/// Where a call's bytes come from, and who keeps them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Files, which are the client's to keep.
    Referenced,
    /// Files, which are copied before the call returns.
    Copied,
    /// The call itself.
    Uploaded,
}

/// One frame of the call.
#[derive(Debug, PartialEq)]
pub struct CheckedFrame {
    /// Index into the call's files.
    pub file: usize,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes; `None`: the whole file.
    pub bytes: Option<u64>,
    /// The name that the result bears.
    pub name: String,
}

fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

/// Checks a call of at most `frames_max` frames.
pub fn check(request: &PushDataRequest, frames_max: usize) -> Result<Checked, Status> {
    let origin = match Hold::try_from(request.hold) {
        Ok(Hold::Unspecified | Hold::Reference) => Origin::Referenced,
        Ok(Hold::Copy) => Origin::Copied,
        Err(_) => return Err(invalid(format!("hold = {}: give HOLD_REFERENCE or HOLD_COPY", request.hold))),
    };
    check_words(request, frames_max, origin)
}

/// Checks the first message of an upload.
pub fn check_upload(request: &PushDataRequest, frames_max: usize) -> Result<Checked, Status> {
    if !request.location.is_empty() || !request.files.is_empty() {
        return Err(invalid("an upload brings its images along: give `sizes`, and neither `location` nor `files`"));
    }
    check_words(request, frames_max, Origin::Uploaded)
}

fn check_words(request: &PushDataRequest, frames_max: usize, origin: Origin) -> Result<Checked, Status> {
    let count = request.sizes.len().max(request.files.len());
    if !request.sizes.is_empty() && !request.files.is_empty() {
        return Err(invalid("both `sizes` and `files` are given: give `location` and `sizes`, or `files`"));
    }
    if count == 0 {
        return Err(invalid("the batch is empty: give `location` and `sizes`, or `files`; in an upload, `sizes`"));
    }
    if count > frames_max {
        return Err(invalid(format!(
            "a batch of {count} images exceeds the {frames_max} frames that may be in flight: split it (server.frames_max)"
        )));
    }
    if request.idempotency_key.len() > KEY_BYTES_MAX {
        let length = request.idempotency_key.len();
        return Err(invalid(format!("the idempotency key has {length} bytes; at most {KEY_BYTES_MAX} are allowed")));
    }
    if request.idempotency_key.contains('\0') {
        return Err(invalid("the idempotency key holds a NUL"));
    }
    if request.wait_ms > WAIT_MS_MAX {
        let wait_ms = request.wait_ms;
        return Err(invalid(format!("wait_ms = {wait_ms}: a call waits {WAIT_MS_MAX} ms at most")));
    }
    let raw = raw_frame(request.raw.as_ref())?;
    let files = match origin {
        Origin::Uploaded => Vec::new(),
        _ if request.files.is_empty() => vec![request.location.clone()],
        _ => request.files.clone(),
    };
    files.iter().try_for_each(|path| check_path(path))?;
    let mut frames = if request.files.is_empty() { blob_frames(request)? } else { file_frames(&request.files) };
    name_frames(&mut frames, request, origin)?;
    if let Some(frame_bytes) = raw.as_ref().and_then(RawFrame::bytes) {
        let short = frames.iter().position(|frame| frame.bytes.is_some_and(|bytes| bytes < frame_bytes));
        if let Some(place) = short {
            let bytes = frames[place].bytes.unwrap_or(0);
            return Err(invalid(format!("sizes[{place}] = {bytes}: the raw geometry needs {frame_bytes} bytes")));
        }
    }
    Ok(Checked { frames, files, origin, raw: raw.unwrap_or_default() })
}

fn blob_frames(request: &PushDataRequest) -> Result<Vec<CheckedFrame>, Status> {
    let mut offset = 0u64;
    let mut frames = Vec::with_capacity(request.sizes.len());
    for (place, bytes) in request.sizes.iter().enumerate() {
        frames.push(CheckedFrame { file: 0, offset, bytes: Some(*bytes), name: String::new() });
        offset = offset
            .checked_add(*bytes)
            .ok_or_else(|| invalid(format!("the sum of `sizes` overflows at sizes[{place}] = {bytes}")))?;
    }
    Ok(frames)
}

fn file_frames(files: &[String]) -> Vec<CheckedFrame> {
    let frame = |file| CheckedFrame { file, offset: 0, bytes: None, name: String::new() };
    (0..files.len()).map(frame).collect()
}

fn check_path(path: &str) -> Result<(), Status> {
    if path.is_empty() {
        return Err(invalid("`location` is empty: give the absolute path of the batch in tmpfs"));
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(invalid(format!("a path of {} bytes; at most {PATH_BYTES_MAX} are allowed", path.len())));
    }
    if path.contains('\0') || !path.starts_with('/') {
        return Err(invalid(format!("{path:?} is no absolute path without NUL")));
    }
    Ok(())
}

fn name_frames(frames: &mut [CheckedFrame], request: &PushDataRequest, origin: Origin) -> Result<(), Status> {
    if !request.names.is_empty() && request.names.len() != frames.len() {
        let (names, images) = (request.names.len(), frames.len());
        return Err(invalid(format!("{names} names for {images} images: give one each, or none")));
    }
    let single = frames.len() == 1;
    for (place, frame) in frames.iter_mut().enumerate() {
        frame.name = match request.names.get(place) {
            Some(name) => name.clone(),
            None if origin == Origin::Uploaded => format!("upload#{place}"),
            None => default_name(request, frame.file, place, single),
        };
        if frame.name.is_empty() || frame.name.len() > NAME_BYTES_MAX || frame.name.contains('\0') {
            let (name, length) = (frame.name.chars().take(64).collect::<String>(), frame.name.len());
            return Err(invalid(format!(
                "names[{place}] begins {name:?} ({length} bytes): a name has 1 to {NAME_BYTES_MAX} bytes and no NUL"
            )));
        }
    }
    Ok(())
}

/// The file's own name; with its place where a file holds several.
fn default_name(request: &PushDataRequest, file: usize, place: usize, single: bool) -> String {
    let path = request.files.get(file).unwrap_or(&request.location);
    let name = path.rsplit('/').next().unwrap_or_default();
    let suffix = if request.files.is_empty() && !single { format!("#{place}") } else { String::new() };
    let mut end = name.len().min(NAME_BYTES_MAX - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
}

fn raw_frame(format: Option<&RawFrameFormat>) -> Result<Option<RawFrame>, Status> {
    let Some(format) = format else { return Ok(None) };
    let pixels = match PixelFormat::try_from(format.format) {
        Ok(PixelFormat::Rgb24) => RawFormat::Rgb24,
        Ok(PixelFormat::Bgr24) => RawFormat::Bgr24,
        Ok(PixelFormat::Gray8) => RawFormat::Gray8,
        Ok(PixelFormat::Nv12) => RawFormat::Nv12,
        Ok(PixelFormat::I420) => RawFormat::I420,
        Ok(PixelFormat::Unspecified) | Err(_) => {
            return Err(invalid(format!("raw.format = {}: give RGB24, BGR24, GRAY8, NV12 or I420", format.format)));
        }
    };
    let row = pixels.row_bytes(format.width);
    let stride = if format.stride == 0 { u32::try_from(row).unwrap_or(0) } else { format.stride };
    let frame = RawFrame { format: pixels as u32, width: format.width, height: format.height, stride };
    if frame.bytes().is_none() {
        return Err(invalid(format!(
            "raw geometry {}x{} with rows of {stride} bytes: sides are 1 at least and a row has {row} bytes at least",
            format.width, format.height
        )));
    }
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(sizes: &[u64]) -> PushDataRequest {
        PushDataRequest { location: "/dev/shm/in/a.bin".into(), sizes: sizes.into(), ..PushDataRequest::default() }
    }

    fn refusal(request: &PushDataRequest) -> String {
        check(request, 100).expect_err("it must be refused").message().to_owned()
    }

    #[test]
    fn a_blob_is_cut_by_its_sizes_and_named_by_its_places() {
        let checked = check(&blob(&[10, 0, 20]), 100).expect("it is good");
        let places: Vec<_> = checked.frames.iter().map(|frame| (frame.offset, frame.bytes, &frame.name[..])).collect();
        assert_eq!(places, [(0, Some(10), "a.bin#0"), (10, Some(0), "a.bin#1"), (10, Some(20), "a.bin#2")]);
    }

    #[test]
    fn files_are_named_after_themselves() {
        let request = PushDataRequest { files: vec!["/x/a.jpg".into(), "/x/b.jpg".into()], ..Default::default() };
        let checked = check(&request, 100).expect("it is good");
        assert_eq!(checked.frames[1], CheckedFrame { file: 1, offset: 0, bytes: None, name: "b.jpg".into() });
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_value() {
        assert!(refusal(&PushDataRequest::default()).contains("empty"));
        assert!(refusal(&blob(&vec![1; 101])).contains("101 images exceeds the 100"));
        assert!(check(&blob(&vec![1; 1_000_000]), 4096).is_err());
        assert!(refusal(&blob(&[u64::MAX, 1])).contains("overflows at sizes[1]"));
        assert!(refusal(&PushDataRequest { location: "a.bin".into(), ..blob(&[1]) }).contains("no absolute path"));
        assert!(
            refusal(&PushDataRequest { names: vec!["x".into()], ..blob(&[1, 2]) }).contains("1 names for 2 images")
        );
        assert!(refusal(&PushDataRequest { names: vec!["a\0b".into()], ..blob(&[1]) }).contains("names[0]"));
        assert!(refusal(&PushDataRequest { names: vec!["x".repeat(256)], ..blob(&[1]) }).contains("256 bytes"));
        assert!(refusal(&PushDataRequest { files: vec!["/x".into()], ..blob(&[1]) }).contains("both"));
        assert!(refusal(&PushDataRequest { idempotency_key: "k".repeat(129), ..blob(&[1]) }).contains("129 bytes"));
        assert!(refusal(&PushDataRequest { idempotency_key: "a\0b".into(), ..blob(&[1]) }).contains("NUL"));
        assert!(refusal(&PushDataRequest { wait_ms: 60_001, ..blob(&[1]) }).contains("60000 ms at most"));
    }

    #[test]
    fn who_keeps_the_bytes_is_said_or_they_are_the_clients() {
        let origin = |hold| check(&PushDataRequest { hold, ..blob(&[1]) }, 100).expect("it is good").origin;
        assert_eq!(origin(0), Origin::Referenced);
        assert_eq!(origin(Hold::Reference.into()), Origin::Referenced);
        assert_eq!(origin(Hold::Copy.into()), Origin::Copied);
        assert!(refusal(&PushDataRequest { hold: 3, ..blob(&[1]) }).contains("hold = 3"));
    }

    #[test]
    fn an_upload_has_sizes_and_no_files() {
        let upload = |request: &PushDataRequest| check_upload(request, 100);
        let sizes = PushDataRequest { sizes: vec![1, 0], ..PushDataRequest::default() };
        let checked = upload(&sizes).expect("it is good");
        assert_eq!((checked.files.len(), checked.origin), (0, Origin::Uploaded));
        let named: Vec<_> = checked.frames.iter().map(|frame| (&frame.name[..], frame.bytes)).collect();
        assert_eq!(named, [("upload#0", Some(1)), ("upload#1", Some(0))]);
        assert!(upload(&PushDataRequest::default()).expect_err("refused").message().contains("empty"));
        for wrong in [blob(&[1]), PushDataRequest { files: vec!["/x".into()], ..PushDataRequest::default() }] {
            assert!(upload(&wrong).expect_err("refused").message().contains("neither `location` nor `files`"));
        }
    }

    #[test]
    fn raw_frames_must_fit_their_geometry() {
        let raw = RawFrameFormat { format: PixelFormat::Rgb24 as i32, width: 4, height: 2, stride: 0 };
        let request = |raw, bytes| PushDataRequest { raw: Some(raw), ..blob(&[bytes]) };
        assert_eq!(check(&request(raw, 24), 100).expect("it is good").raw.stride, 12);
        assert!(refusal(&request(raw, 23)).contains("needs 24 bytes"));
        assert!(refusal(&request(RawFrameFormat { stride: 11, ..raw }, 24)).contains("rows of 11 bytes"));
        assert!(refusal(&request(RawFrameFormat { format: 7, ..raw }, 24)).contains("raw.format = 7"));
        assert!(refusal(&request(RawFrameFormat { width: u32::MAX, ..raw }, 24)).contains("raw geometry"));
    }

    #[test]
    fn planar_frames_must_fit_theirs() {
        let raw = |format: PixelFormat, stride| RawFrameFormat { format: format.into(), width: 5, height: 3, stride };
        let request = |raw, bytes| PushDataRequest { raw: Some(raw), ..blob(&[bytes]) };
        let good = |raw, bytes| check(&request(raw, bytes), 100).expect("it is good").raw;
        // Rows of 6 bytes: 3 of luma, 2 of pairs.
        assert_eq!(good(raw(PixelFormat::Nv12, 0), 30).stride, 6, "the width rounded up to even");
        assert!(refusal(&request(raw(PixelFormat::Nv12, 0), 29)).contains("needs 30 bytes"));
        assert!(refusal(&request(raw(PixelFormat::Nv12, 5), 99)).contains("a row has 6 bytes at least"));
        // 3 rows of 5 bytes, 4 of 3.
        let i420 = good(raw(PixelFormat::I420, 0), 27);
        assert_eq!((i420.format, i420.stride), (RawFormat::I420 as u32, 5));
        assert!(refusal(&request(raw(PixelFormat::I420, 0), 26)).contains("needs 27 bytes"));
        assert!(refusal(&request(raw(PixelFormat::I420, 4), 99)).contains("a row has 5 bytes at least"));
        for format in [PixelFormat::Nv12, PixelFormat::I420] {
            let raw = raw(format, 0);
            assert!(refusal(&request(RawFrameFormat { height: 0, ..raw }, 99)).contains("raw geometry 5x0"));
            let huge = RawFrameFormat { height: u32::MAX, stride: u32::MAX, ..raw };
            assert!(refusal(&request(huge, u64::MAX - 1)).contains(&format!("needs {} bytes", u64::MAX)));
        }
        let widest = RawFrameFormat { width: u32::MAX, ..raw(PixelFormat::Nv12, 0) };
        assert!(refusal(&request(widest, 99)).contains("raw geometry"), "no overflow");
    }
}
