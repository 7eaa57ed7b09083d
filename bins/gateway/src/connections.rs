//! Connections: as many as there are permits. Further ones wait in the listen backlog, where they cost no descriptor of
//! this process. A connection gives its permit back when it is closed; peers that say nothing from the start are closed
//! here, and those that fall silent later by HTTP/2's keepalive.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::server::Connected;

/// Between two tries where the system gives no connection, for want of descriptors say: trying on at once would keep a
/// processor busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What every HTTP/2 client sends before all else.
const PREFACE_BYTES: usize = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// The connections of a listener, each with a permit of `permits`. One that has not sent its preface within
/// `preface_wait` ends.
pub fn accept<L, IO>(
    mut listener: L,
    permits: Arc<Semaphore>,
    preface_wait: Duration,
) -> ReceiverStream<io::Result<Connection<IO>>>
where
    L: Stream<Item = io::Result<IO>> + Unpin + Send + 'static,
    IO: Send + 'static,
{
    let (sender, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut is_failing = false;
        loop {
            let next = async {
                let permit = permits.clone().acquire_owned().await.ok()?;
                listener.next().await.map(|accepted| (accepted, permit))
            };
            let next = tokio::select! {
                next = next => next,
                () = sender.closed() => return, // the server stops
            };
            let Some((accepted, permit)) = next else { return };
            match accepted {
                Ok(io) => {
                    is_failing = false;
                    let silence = Some(Box::pin(sleep(preface_wait)));
                    let connection = Connection { io, preface_left: PREFACE_BYTES, silence, _permit: permit };
                    if sender.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    if !is_failing {
                        tracing::error!("no connection can be accepted: {error}");
                    }
                    is_failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    ReceiverStream::new(connections)
}

/// A connection, with its permit.
pub struct Connection<IO> {
    io: IO,
    preface_left: usize,
    /// Until when the preface must have come; `None`: it came.
    silence: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl<IO: Connected> Connected for Connection<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> IO::ConnectInfo {
        self.io.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if let Some(silence) = &mut self.silence {
            if read.is_pending() {
                ready!(silence.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.preface_left = self.preface_left.saturating_sub(buffer.filled().len() - before);
            if self.preface_left == 0 {
                self.silence = None;
            }
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Instant};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn served(
        results: Vec<io::Result<DuplexStream>>,
    ) -> tokio_stream::Iter<std::vec::IntoIter<io::Result<DuplexStream>>> {
        tokio_stream::iter(results)
    }

    #[tokio::test]
    async fn who_finds_no_permit_waits_until_another_connection_is_closed() {
        let peers = (0..3).map(|_| Ok(duplex(64).0)).collect();
        let mut connections = accept(served(peers), Arc::new(Semaphore::new(2)), LONG);
        let mut open: VecDeque<_> = VecDeque::new();
        for _ in 0..2 {
            open.push_back(connections.next().await.expect("there is one").expect("it is good"));
        }
        assert!(tokio::time::timeout(Duration::from_millis(50), connections.next()).await.is_err(), "two at a time");
        open.pop_front();
        connections.next().await.expect("there is one").expect("it is good");
    }

    #[tokio::test]
    async fn a_system_that_gives_no_connection_is_asked_again_after_a_pause() {
        let failures = (0..2).map(|_| Err(io::Error::from_raw_os_error(24)));
        let peers = failures.chain([Ok(duplex(64).0)]).collect();
        let start = Instant::now();
        let mut connections = accept(served(peers), Arc::new(Semaphore::new(1)), LONG);
        connections.next().await.expect("there is one").expect("the failures are not passed on");
        assert!(start.elapsed() >= 2 * ACCEPT_PAUSE, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn who_says_nothing_is_closed_and_who_begins_as_http2_does_may_be_silent() {
        let (quiet, slow, mut good);
        let (mut peers, bytes) = (Vec::new(), [b'x'; PREFACE_BYTES]);
        let (here, peer) = duplex(64);
        (quiet, _) = (peer, peers.push(Ok(here)));
        let (here, mut peer) = duplex(64);
        peer.write_all(&bytes[1..]).await.expect("there is room");
        (slow, _) = (peer, peers.push(Ok(here)));
        let (here, mut peer) = duplex(64);
        peer.write_all(&bytes).await.expect("there is room");
        (good, _) = (peer, peers.push(Ok(here)));
        let mut connections = accept(served(peers), Arc::new(Semaphore::new(3)), Duration::from_millis(50));
        let mut read = Vec::new();
        for _ in 0..2 {
            let mut connection = connections.next().await.expect("there is one").expect("it is good");
            let end = tokio::time::timeout(LONG, connection.read_to_end(&mut read)).await.expect("long before");
            let error = end.expect_err("it is silent");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        let mut connection = connections.next().await.expect("there is one").expect("it is good");
        connection.read_exact(&mut [0; PREFACE_BYTES]).await.expect("it is there");
        let more = tokio::time::timeout(Duration::from_millis(100), connection.read_u8()).await;
        assert!(more.is_err(), "it waits: {more:?}");
        good.write_u8(7).await.expect("it is open");
        assert_eq!(connection.read_u8().await.expect("it is open"), 7);
        drop((quiet, slow));
    }
}
