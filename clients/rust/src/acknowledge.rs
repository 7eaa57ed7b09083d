//! Tells the server in the background which results it may forget.
//!
//! Acknowledgements are cumulative and best effort: one that fails is made up for by the next, and a lost one costs
//! the server memory and a later reader some repeats, never a result.

use std::time::Duration;

use framepipe_proto::v1::{AckResultsRequest, framepipe_client::FramepipeClient};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::transport::Channel;

const EVERY: Duration = Duration::from_millis(500);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the newest acknowledgeable sequence every `every_results` results or half a second, and when it is dropped.
#[derive(Debug)]
pub struct Acknowledger {
    wanted: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Acknowledger {
    pub fn spawn(grpc: FramepipeClient<Channel>, stream: String, every_results: u64) -> Self {
        let (wanted, receiver) = watch::channel(0);
        Self { wanted, task: tokio::spawn(run(grpc, stream, every_results, receiver)) }
    }

    /// All results up to `sequence` may be forgotten.
    pub fn up_to(&self, sequence: u64) {
        self.wanted.send_replace(sequence);
    }

    /// Begins to send what is left; the task ends when that is done.
    pub fn finish(self) -> JoinHandle<()> {
        self.task
    }
}

async fn run(mut grpc: FramepipeClient<Channel>, stream: String, every_results: u64, mut wanted: watch::Receiver<u64>) {
    let mut sent = 0;
    while wanted.changed().await.is_ok() {
        tokio::select! {
            () = sleep(EVERY) => {}
            _ = wanted.wait_for(|sequence| *sequence >= sent + every_results) => {}
        }
        sent = *wanted.borrow_and_update();
        let request = AckResultsRequest { stream: stream.clone(), sequence: sent };
        let _ = timeout(CALL_TIMEOUT, grpc.ack_results(request)).await;
    }
}
