//! HTTP for those who watch: `/metrics`, `/readyz`, `/livez`. One request a connection, GET or HEAD, within a time; so many
//! connections at once. A further one takes the place of that which waits longest for its client (`places.rs`).

mod places;

use std::{convert::Infallible, net::TcpListener, sync::Arc, time::Duration};

use framepipe_pipeline::Process;
use framepipe_shm::monotonic_ns;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    time::{sleep, timeout},
};

use self::places::{Place, Places};
use crate::{
    hub::Hub,
    metrics::{self, Scrape},
};

/// Connections at once.
const CONNECTIONS_MAX: usize = 16;
/// For a request's head to come.
const HEAD_WAIT: Duration = Duration::from_secs(3);
/// For a request to come, be answered and be taken.
const REQUEST_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and headers in it.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Between two tries where the system gives no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all requests share.
pub struct Pages {
    process: &'static Process,
    hub: Arc<Hub>,
    /// One scrape at a time: it reads tables.
    scrape: Arc<Mutex<Scrape>>,
}

impl Pages {
    /// Of this gateway.
    pub fn new(process: &'static Process, hub: Arc<Hub>) -> Self {
        let scrape = Arc::new(Mutex::new(Scrape::new(process, hub.clone())));
        Self { process, hub, scrape }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "this server answers GET and HEAD\n".into());
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/readyz" => self.readiness(),
            "/livez" => self.liveness(),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /readyz and /livez\n".into()),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let scrape = self.scrape.clone().lock_owned().await;
        // It reads files of /proc, and waits for the hub's lock.
        match tokio::task::spawn_blocking(move || scrape.text()).await {
            Ok(Ok(page)) => answer(StatusCode::OK, metrics::CONTENT_TYPE, page),
            Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let report = self.hub.health.report();
        let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        answer(status, "application/json", report.json(&self.process.order.config.name) + "\n")
    }

    /// The gateway goes round its loops: this one answers, and delivery beats.
    fn liveness(&self) -> Response<Full<Bytes>> {
        let silent_ms = monotonic_ns().saturating_sub(self.process.entry().heartbeat_ns()) / 1_000_000;
        let most = self.process.order.config.server.hang_ms_max;
        if silent_ms <= most {
            return text(StatusCode::OK, "the gateway lives\n".into());
        }
        let words =
            format!("the gateway has delivered nothing, and looked for nothing to deliver, for {silent_ms} ms\n");
        text(StatusCode::SERVICE_UNAVAILABLE, words)
    }
}

fn text(status: StatusCode, words: String) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", words)
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Answers whoever connects, until the server must end.
pub async fn serve(listener: TcpListener, pages: Arc<Pages>) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Places::new(CONNECTIONS_MAX);
    let mut stopping = pages.hub.stopping();
    let mut is_failing = false;
    loop {
        // The place comes after the connection: nobody is closed for the sake of one that never comes.
        let next = async {
            match listener.accept().await {
                Ok((stream, _)) => Ok((stream, places.take().await)),
                Err(error) => Err(error),
            }
        };
        let accepted = tokio::select! {
            next = next => next,
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
        };
        match accepted {
            Ok((stream, place)) => {
                is_failing = false;
                let pages = pages.clone();
                tokio::spawn(async move {
                    // Whoever is too slow, or says no HTTP, is closed: that is all there is to say.
                    tokio::select! {
                        _ = timeout(REQUEST_WAIT, serve_one(stream, &pages, &place)) => {}
                        () = place.must_end() => {}
                    }
                });
            }
            Err(error) => {
                if !is_failing {
                    tracing::error!("no HTTP connection can be accepted: {error}");
                }
                is_failing = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, pages: &Pages, place: &Place) -> hyper::Result<()> {
    let answer = |request: Request<Incoming>| async move {
        place.is_answered();
        let answer = pages.answer(&request).await;
        place.waits();
        Ok::<_, Infallible>(answer)
    };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
}
