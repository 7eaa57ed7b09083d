//! A stream's results. One is acknowledged when it has been printed, and not before.

use framepipe_client::{Client, Error, FrameResult, Outcome, Results, ResultsOptions, StreamExt as _};

/// Reads a stream.
pub struct Reader {
    client: Client,
    stream: String,
    results: Results,
    acknowledges: bool,
    /// The last one handed on, and not acknowledged yet.
    last: Option<u64>,
}

impl Reader {
    /// Of this stream.
    pub fn new(client: &Client, stream: &str, options: ResultsOptions) -> Self {
        let acknowledges = options.acknowledge;
        let results = client.results(stream, options);
        Self { client: client.clone(), stream: stream.into(), results, acknowledges, last: None }
    }

    /// The next one; `None` at the end. The one before is done with. What is given up while it waits loses nothing.
    pub async fn next(&mut self) -> Option<Result<FrameResult, Error>> {
        let next = self.results.next().await;
        self.last = next.as_ref().and_then(|result| result.as_ref().ok()).map(|result| result.sequence);
        next
    }

    /// The last one could not be printed: it is another reader's.
    pub fn leave_last(&mut self) {
        self.last = None;
    }

    /// The last one is done with too, and no more are wanted.
    pub async fn close(self) -> Result<(), Error> {
        self.results.close().await;
        match self.last.filter(|_| self.acknowledges) {
            Some(last) => self.client.ack(&self.stream, last).await.map(drop),
            None => Ok(()),
        }
    }
}

/// True of a result that has no detections.
pub fn is_error(result: &FrameResult) -> bool {
    !matches!(result.outcome, Some(Outcome::Detections(_)))
}
