//! An upload: the push's words, then the images' bytes, piece by piece, as fast as the server takes them.

use framepipe_proto::v1::{
    PushDataRequest, PushDataResponse, UploadRequest, framepipe_client::FramepipeClient, upload_request::Part,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, metadata::AsciiMetadataValue, transport::Channel};

use crate::push::in_trace;

/// Bytes of a message with data: what the server takes at most is 1 MiB.
const DATA_BYTES: usize = 256 << 10;

/// Makes one call.
pub async fn send(
    mut grpc: FramepipeClient<Channel>,
    push: PushDataRequest,
    images: &[&[u8]],
    trace: Option<&AsciiMetadataValue>,
) -> Result<Response<PushDataResponse>, Status> {
    let (sender, messages) = mpsc::channel(1);
    let message = |part| UploadRequest { part: Some(part) };
    let feed = async move {
        let pieces = images.iter().flat_map(|image| image.chunks(DATA_BYTES));
        let parts = std::iter::once(Part::Push(push)).chain(pieces.map(|piece| Part::Data(piece.to_vec())));
        for part in parts {
            if sender.send(message(part)).await.is_err() {
                return; // the call has ended: its status says why
            }
        }
    };
    let call = grpc.upload(in_trace(ReceiverStream::new(messages), trace));
    let (answer, ()) = tokio::join!(call, feed);
    answer
}
