//! Calls being read: a call's message is read whole, within a time, before it is decoded, and so many calls at once. What
//! all of them keep in memory is bounded so, however many connections and calls there are; the others wait, unread, behind
//! HTTP/2's windows.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, task::Context, task::Poll, time::Duration};

use http_body_util::{BodyExt as _, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

/// A call's permit, among the request's extensions: it ends with the last of its clones, the call's end at the latest.
#[derive(Clone)]
pub struct Reading(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// A service whose calls are read before it sees them.
#[derive(Clone)]
pub struct ReadWhole<S> {
    service: S,
    permits: Arc<Semaphore>,
    /// Most bytes of a call.
    bytes_max: usize,
    /// For a call to arrive whole.
    wait: Duration,
    /// The call of this path is not read: this service reads it by itself, and bounds it.
    streaming: Option<(&'static str, S)>,
}

impl<S> ReadWhole<S> {
    /// Reads `calls_max` calls at once, each of `bytes_max` bytes at most, which must arrive within `wait`.
    pub fn new(service: S, calls_max: usize, bytes_max: usize, wait: Duration) -> Self {
        Self { service, permits: Arc::new(Semaphore::new(calls_max)), bytes_max, wait, streaming: None }
    }

    /// Leaves the calls of this path to a service that reads them message by message.
    pub fn but_for(self, path: &'static str, service: S) -> Self {
        Self { streaming: Some((path, service)), ..self }
    }
}

impl<S: NamedService> NamedService for ReadWhole<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for ReadWhole<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // generated services always are
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if let Some((_, service)) = self.streaming.as_mut().filter(|(path, _)| *path == request.uri().path()) {
            return Box::pin(service.clone().call(request));
        }
        let Self { mut service, permits, bytes_max, wait, .. } = self.clone();
        Box::pin(async move {
            let permit = permits.acquire_owned().await.expect("nobody closes it");
            let (mut parts, body) = request.into_parts();
            let read = tokio::time::timeout(wait, Limited::new(body, bytes_max).collect()).await;
            let refusal = match read {
                Ok(Ok(body)) => {
                    parts.extensions.insert(Reading(Arc::new(permit)));
                    return service.call(http::Request::from_parts(parts, Body::new(body))).await;
                }
                Ok(Err(error)) => Status::out_of_range(format!("{error}: a call has {bytes_max} bytes at most")),
                Err(_) => Status::deadline_exceeded(format!("the call did not arrive whole within {wait:?}")),
            };
            Ok(refusal.into_http())
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use tonic::codegen::Bytes;

    use super::*;

    const BYTES_MAX: usize = 100;

    /// Answers when all permits of calls that it was given are dropped but its own.
    #[derive(Clone)]
    struct Echo {
        keep: Arc<Semaphore>,
    }

    impl Service<http::Request<Body>> for Echo {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
            let keep = self.keep.clone();
            Box::pin(async move {
                let reading = request.extensions_mut().remove::<Reading>().expect("it has one");
                let _go_on = keep.acquire().await.expect("nobody closes it");
                drop(reading);
                Ok(http::Response::new(request.into_body()))
            })
        }
    }

    fn whole(bytes: usize) -> http::Request<Body> {
        http::Request::new(Body::new(Full::new(Bytes::from(vec![7; bytes]))))
    }

    fn endless() -> http::Request<Body> {
        let frames = tokio_stream::pending::<Result<http_body::Frame<Bytes>, Status>>();
        http::Request::new(Body::new(StreamBody::new(frames)))
    }

    fn code(response: &http::Response<Body>) -> Option<&str> {
        response.headers().get("grpc-status").map(|code| code.to_str().expect("it is text"))
    }

    fn service(go_on: usize, wait: Duration) -> ReadWhole<Echo> {
        ReadWhole::new(Echo { keep: Arc::new(Semaphore::new(go_on)) }, 2, BYTES_MAX, wait)
    }

    #[tokio::test]
    async fn a_call_passes_whole_unless_it_is_too_large() {
        let mut service = service(9, Duration::from_secs(60));
        let answer = service.call(whole(BYTES_MAX)).await.expect("infallible");
        assert_eq!(answer.into_body().collect().await.expect("it is whole").to_bytes().len(), BYTES_MAX);
        let refused = service.call(whole(BYTES_MAX + 1)).await.expect("infallible");
        assert_eq!(code(&refused), Some("11"), "OUT_OF_RANGE");
    }

    #[tokio::test]
    async fn calls_of_one_path_are_left_to_another_service() {
        /// Answers without looking at the call.
        #[derive(Clone)]
        enum Either {
            Whole,
            Streaming,
        }
        impl Service<http::Request<Body>> for Either {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                let is_read = request.extensions().get::<Reading>().is_some();
                assert_eq!(is_read, matches!(self, Self::Whole));
                Box::pin(async { Ok(http::Response::new(request.into_body())) })
            }
        }
        let service = ReadWhole::new(Either::Whole, 1, BYTES_MAX, Duration::from_millis(50));
        let mut service = service.but_for("/upload", Either::Streaming);
        let endless = |path: &str| {
            let mut call = endless();
            *call.uri_mut() = path.parse().expect("a path");
            call
        };
        let answer = service.call(endless("/upload")).await.expect("infallible");
        assert_eq!(code(&answer), None, "it did not wait for the call to arrive");
        let refused = service.call(endless("/upload/more")).await.expect("infallible");
        assert_eq!(code(&refused), Some("4"), "DEADLINE_EXCEEDED");
    }

    #[tokio::test]
    async fn calls_that_do_not_arrive_keep_others_waiting_for_their_time_alone() {
        let mut service = service(9, Duration::from_millis(50));
        let stuck: Vec<_> = (0..2).map(|_| tokio::spawn(service.call(endless()))).collect();
        tokio::task::yield_now().await;
        assert_eq!(service.permits.available_permits(), 0);
        let answer = tokio::time::timeout(Duration::from_secs(10), service.call(whole(1))).await.expect("long before");
        assert_eq!(code(&answer.expect("infallible")), None);
        for stuck in stuck {
            let refused = stuck.await.expect("it ran").expect("infallible");
            assert_eq!(code(&refused), Some("4"), "DEADLINE_EXCEEDED");
        }
    }

    #[tokio::test]
    async fn a_call_counts_until_it_drops_its_permit() {
        let mut service = service(0, Duration::from_secs(60));
        let calls: Vec<_> = (0..3).map(|_| tokio::spawn(service.call(whole(1)))).collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(service.permits.available_permits(), 0, "two are in the service, one waits");
        service.service.keep.add_permits(1);
        for call in calls {
            assert_eq!(code(&call.await.expect("it ran").expect("infallible")), None);
        }
        assert_eq!(service.permits.available_permits(), 2);
    }
}
