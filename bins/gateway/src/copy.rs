//! Images on their way into the store: read from the client's files (HOLD_COPY), or as they come with the call (Upload).

use std::sync::Arc;

use framepipe_frame::{ErrorCode, FrameError, Kept};
use framepipe_pipeline::source;
use tonic::Status;

use crate::{
    accept::{Call, Files},
    store::{Keeping, Store, StoreError, Writing},
};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 128 << 10;

/// A call's images, in order, as far as they came. Dropped, they leave nothing, but for those that frames have.
#[derive(Default)]
pub struct Intake {
    kept: Vec<Keeping>,
    writing: Option<Writing>,
}

impl Intake {
    /// True where nothing came, or frames have all of it.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.writing.is_none()
    }

    /// What the request of the frame at this place says of its image.
    pub fn kept(&self, place: usize) -> Kept {
        self.kept.get(place).map_or_else(Kept::default, Keeping::kept)
    }

    /// Gives all images to the frames whose requests name them by now.
    pub fn hold(&mut self) {
        self.kept.drain(..).for_each(Keeping::hold);
    }

    /// The next bytes of images of these sizes, cut anywhere: no more than are still to come. An image's room is taken when
    /// its turn comes; one without bytes has it at once.
    pub fn take_in(&mut self, store: &Arc<Store>, sizes: &[u64], mut bytes: &[u8]) -> Result<(), StoreError> {
        loop {
            let writing = match self.writing.take() {
                Some(writing) => self.writing.insert(writing),
                None => {
                    let Some(size) = sizes.get(self.kept.len()).filter(|size| **size == 0 || !bytes.is_empty()) else {
                        return Ok(());
                    };
                    self.writing.insert(store.begin(*size)?)
                }
            };
            let (now, later) =
                bytes.split_at(bytes.len().min(usize::try_from(writing.missing()).unwrap_or(usize::MAX)));
            writing.add(now)?;
            bytes = later;
            if writing.missing() > 0 {
                return Ok(());
            }
            self.kept.extend(self.writing.take().map(Writing::finish).transpose()?);
        }
    }
}

/// Copies a call's images into the store: the outer error is the files', the inner one the store's. With either, nothing is left.
pub fn copy(call: &Call, files: &Files) -> Result<Result<Intake, StoreError>, Status> {
    let mut intake = Intake::default();
    let mut buffer = Vec::new();
    for place in 0..call.checked.frames.len() {
        let request = call.frame_request(place, files);
        let refused = |error| refusal(&call.checked.files[call.checked.frames[place].file], error);
        let file = source::OpenFile::open(call.hub.roots.root(request.root), &request).map_err(refused)?;
        let source = file.source(&request);
        let mut writing = match call.hub.store.begin(request.bytes) {
            Ok(writing) => writing,
            Err(error) => return Ok(Err(error)),
        };
        while writing.missing() > 0 {
            let at = request.bytes - writing.missing();
            buffer.resize(writing.missing().min(PIECE_BYTES as u64) as usize, 0);
            source.read_piece(at, &mut buffer).map_err(refused)?;
            if let Err(error) = writing.add(&buffer) {
                return Ok(Err(error));
            }
        }
        source.check().map_err(refused)?;
        match writing.finish() {
            Ok(keeping) => intake.kept.push(keeping),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(intake))
}

/// What a client is told of a file that is not what it was when the call was looked at.
fn refusal(path: &str, error: FrameError) -> Status {
    let FrameError { code, message } = error;
    match code {
        ErrorCode::SourceGone => Status::not_found(format!("{path} was removed while it was copied")),
        ErrorCode::SourceChanged => {
            let words = format!("{path} changed while it was copied: push it again once it is written ({message})");
            Status::failed_precondition(words)
        }
        _ => Status::internal(message),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::store::tests::Bench;

    #[test]
    fn bytes_that_come_cut_anywhere_become_the_images() {
        let bytes: Vec<u8> = (0..30_000u32).map(|at| ((at * 7) >> 4) as u8).collect();
        let sizes = [0, 12_000, 0, 0, 17_999, 1, 0];
        for cut in [1, 4095, 12_000, 30_000] {
            let bench = Bench::new(16 * 4096, 0);
            let mut intake = Intake::default();
            for piece in bytes.chunks(cut) {
                intake.take_in(&bench.store, &sizes, piece).expect("there is room");
            }
            intake.take_in(&bench.store, &sizes, &[]).expect("there is room");
            assert_eq!(intake.kept.len(), sizes.len(), "cut every {cut} bytes");
            let mut rest = bytes.as_slice();
            for (place, size) in sizes.iter().enumerate() {
                let (image, behind) = rest.split_at(*size as usize);
                rest = behind;
                assert_eq!(
                    intake.kept(place).digest(),
                    bench.hasher().of(image),
                    "image {place}, cut every {cut} bytes"
                );
            }
            assert!(!intake.is_empty() && !bench.is_empty());
            drop(intake);
            assert!(bench.is_empty());
        }
    }

    #[test]
    fn an_images_room_is_taken_when_its_turn_comes() {
        let bench = Bench::new(2 * 4096, 0);
        let sizes = [4096, 2 * 4096];
        let mut intake = Intake::default();
        intake.take_in(&bench.store, &sizes, &[7; 4096]).expect("the first one has room");
        assert!(matches!(intake.take_in(&bench.store, &sizes, &[7]), Err(StoreError::Full { .. })));
        drop(intake);
        assert!(bench.is_empty());
    }

    #[test]
    fn a_file_that_is_gone_or_changed_is_the_calls_error() {
        let said = |code, message: &str| refusal("/in/a.jpg", FrameError::new(code, message));
        assert_eq!(said(ErrorCode::SourceGone, "").code(), Code::NotFound);
        let changed = said(ErrorCode::SourceChanged, "a.jpg changed after it was accepted: its inode");
        assert_eq!(changed.code(), Code::FailedPrecondition);
        assert!(changed.message().starts_with("/in/a.jpg changed while it was copied"), "{changed:?}");
        assert_eq!(said(ErrorCode::Internal, "no memory").code(), Code::Internal);
    }
}
