//! The gRPC service on its listeners: framepipe.v1, health and reflection.

use std::{net::TcpListener, num::NonZero, os::fd::OwnedFd, os::unix::net::UnixListener, sync::Arc, time::Duration};

use anyhow::Context as _;
use framepipe_pipeline::{Process, Protocol};
use framepipe_proto::{
    DESCRIPTORS,
    v1::{
        AckResultsRequest, AckResultsResponse, PullResultRequest, PushDataRequest, PushDataResponse, UploadRequest,
        framepipe_server::{Framepipe, FramepipeServer},
    },
};
use tokio::sync::watch;
use tokio_stream::{
    StreamExt as _,
    wrappers::{TcpListenerStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, Streaming, service::Routes, transport::Server};
use tonic_health::ServingStatus;

use crate::{accept, calls::ReadWhole, connections, health, http, hub::Hub, metrics::Method, pull, traces, upload};

/// Most threads that serve calls: they check and copy words, never images (an upload's messages they hand on).
const SERVICE_THREADS_MAX: usize = 2;
/// Largest call: 10^6 sizes still get a clear answer.
const CALL_BYTES_MAX: usize = 16 << 20;

/// The call that is read message by message.
const UPLOAD: &str = "/framepipe.v1.Framepipe/Upload";
/// Largest message of an upload: its first one, with the names of as many images as may be in flight, by the defaults.
const UPLOAD_MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Before a message in a gRPC call: its flag and its length.
const MESSAGE_HEAD_BYTES: usize = 5;

/// Calls at once on one connection.
const CONNECTION_CALLS_MAX: u32 = 64;
/// Bytes of a call that its connection may send unread: of one for which no permit is free yet, of an upload that waits.
const CALL_UNREAD_BYTES_MAX: u32 = 64 << 10;
/// The same of all its calls: what one of them leaves unread takes nothing from the others.
const CONNECTION_UNREAD_BYTES_MAX: u32 = CONNECTION_CALLS_MAX * CALL_UNREAD_BYTES_MAX;
/// Calls of all connections that are read and answered at once, but for those that wait for room, which have a bound of
/// their own.
const CALLS_MAX: usize = 16;
/// For a call to arrive whole once it is read, and for a new connection to begin as HTTP/2 does.
const ARRIVAL_WAIT: Duration = Duration::from_secs(10);
/// Largest call of health and reflection, which name services.
const SMALL_CALL_BYTES_MAX: usize = 4 << 10;
/// A peer is asked for a sign of life so often; one that gives none for as long is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

struct Service {
    hub: Arc<Hub>,
}

#[tonic::async_trait]
impl Framepipe for Service {
    async fn push_data(&self, request: Request<PushDataRequest>) -> Result<Response<PushDataResponse>, Status> {
        let (metadata, mut extensions, request) = request.into_parts();
        let caller = traces::caller(&metadata);
        let answer = accept::push(self.hub.clone(), request, caller, extensions.remove()).await;
        self.hub.metrics.answered(Method::PushData, answer).map(Response::new)
    }

    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Result<Response<PushDataResponse>, Status> {
        let caller = traces::caller(request.metadata());
        let answer = upload::upload(self.hub.clone(), caller, request.into_inner()).await;
        self.hub.metrics.answered(Method::Upload, answer).map(Response::new)
    }

    type PullResultStream = pull::Results;

    async fn pull_result(&self, request: Request<PullResultRequest>) -> Result<Response<pull::Results>, Status> {
        let answer = pull::pull(&self.hub, request.get_ref());
        self.hub.metrics.answered(Method::PullResult, answer).map(Response::new)
    }

    async fn ack_results(&self, request: Request<AckResultsRequest>) -> Result<Response<AckResultsResponse>, Status> {
        let answer = pull::acknowledge(&self.hub, request.get_ref());
        self.hub.metrics.answered(Method::AckResults, answer).map(Response::new)
    }
}

/// Serves until the hub stops.
pub fn serve(process: &'static Process, hub: Arc<Hub>) -> anyhow::Result<()> {
    // Where there are few cores a second one would only be woken to find nothing to do.
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).clamp(1, SERVICE_THREADS_MAX))
        .thread_name("grpc")
        .enable_all()
        .build()?;
    runtime.block_on(serve_listeners(process, hub))
}

async fn serve_listeners(process: &'static Process, hub: Arc<Hub>) -> anyhow::Result<()> {
    let service = || FramepipeServer::new(Service { hub: hub.clone() });
    let uploads = service().max_decoding_message_size(UPLOAD_MESSAGE_BYTES_MAX);
    let service = service().max_decoding_message_size(CALL_BYTES_MAX);
    let service =
        ReadWhole::new(service, CALLS_MAX, CALL_BYTES_MAX + MESSAGE_HEAD_BYTES, ARRIVAL_WAIT).but_for(UPLOAD, uploads);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?
        .max_decoding_message_size(SMALL_CALL_BYTES_MAX);
    let health = health.max_decoding_message_size(SMALL_CALL_BYTES_MAX);
    let mut routes = Routes::builder();
    routes.add_service(service).add_service(health).add_service(reflection);
    let routes = routes.routes();

    // The health service says that nothing serves, until it was looked.
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter.set_not_serving::<FramepipeServer<Service>>().await;
    let pages = Arc::new(http::Pages::new(process, hub.clone()));
    let mut servers = tokio::task::JoinSet::new();
    for (protocol, listener) in process.take_listeners() {
        if protocol == Protocol::Http {
            servers.spawn(http::serve(TcpListener::from(listener), pages.clone()));
            continue;
        }
        let permits = hub.connections.clone();
        let server = Server::builder()
            .max_concurrent_streams(CONNECTION_CALLS_MAX)
            .initial_connection_window_size(CONNECTION_UNREAD_BYTES_MAX)
            .initial_stream_window_size(CALL_UNREAD_BYTES_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_routes(routes.clone());
        let stopped = stopped(hub.stopping());
        if is_unix(&listener)? {
            let listener = UnixListener::from(listener);
            listener.set_nonblocking(true)?;
            let listener = UnixListenerStream::new(tokio::net::UnixListener::from_std(listener)?);
            let incoming = connections::accept(listener, permits, ARRIVAL_WAIT);
            let served = server.serve_with_incoming_shutdown(incoming, stopped);
            servers.spawn(async { served.await.context("a gRPC listener failed") });
        } else {
            let listener = TcpListener::from(listener);
            listener.set_nonblocking(true)?;
            // Small answers leave at once. tonic sets this on connections that it accepts itself alone.
            let listener = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?)
                .map(|accepted| accepted.inspect(|stream| drop(stream.set_nodelay(true)))); // one that is gone: as well
            let incoming = connections::accept(listener, permits, ARRIVAL_WAIT);
            let served = server.serve_with_incoming_shutdown(incoming, stopped);
            servers.spawn(async { served.await.context("a gRPC listener failed") });
        }
    }
    servers.spawn(async move {
        health::watch(process, hub, reporter).await;
        Ok(())
    });
    process.ready();
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await; // an error: the hub is gone, which is a stop too
}

fn is_unix(listener: &OwnedFd) -> anyhow::Result<bool> {
    Ok(rustix::net::sockopt::socket_domain(listener)? == rustix::net::AddressFamily::UNIX)
}
