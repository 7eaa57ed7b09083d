//! A collector of traces: it takes spans by OTLP over gRPC and keeps them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{ResourceSpans, Span},
};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A collector. Dropped, it ends.
pub struct Collector {
    address: SocketAddr,
    got: Arc<Mutex<Vec<ResourceSpans>>>,
    server: JoinHandle<()>,
}

/// What a collector does with what it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Takes,
    Hangs,
    /// Takes batches, but for so many spans of each.
    TakesAllBut(i64),
    Refuses,
}

struct Service {
    manner: Manner,
    got: Arc<Mutex<Vec<ResourceSpans>>>,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let rejected_spans = match self.manner {
            Manner::Takes => 0,
            Manner::Hangs => std::future::pending().await,
            Manner::TakesAllBut(spans) => spans,
            Manner::Refuses => return Err(Status::invalid_argument("no spans, please")),
        };
        self.got.lock().expect("no holder panics").extend(request.into_inner().resource_spans);
        let error_message = "spans are too old".into();
        let partial = ExportTracePartialSuccess { rejected_spans, error_message };
        let partial_success = Some(partial).filter(|partial| partial.rejected_spans > 0);
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

/// What a collector got of one frame.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The frame's own span.
    pub root: Span,
    /// The spans below it, by their start and end.
    pub children: Vec<Span>,
}

impl Trace {
    /// An attribute of the frame's span.
    pub fn attribute(&self, key: &str) -> Option<Value> {
        let attribute = self.root.attributes.iter().find(|attribute| attribute.key == key)?;
        attribute.value.clone()?.value
    }

    /// The frame's name.
    pub fn name(&self) -> String {
        match self.attribute("framepipe.name") {
            Some(Value::StringValue(name)) => name,
            other => panic!("a name: {other:?}"),
        }
    }
}

impl Collector {
    /// One that takes all.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// One at an address.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::serve(address, Manner::Takes).await
    }

    /// One that takes calls and never answers.
    pub async fn hanging() -> Self {
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0)), Manner::Hangs).await
    }

    /// One that takes batches, and says that it has refused so many spans of each.
    pub async fn rejecting(spans: i64) -> Self {
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0)), Manner::TakesAllBut(spans)).await
    }

    /// One that refuses batches for good.
    pub async fn refusing() -> Self {
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0)), Manner::Refuses).await
    }

    async fn serve(address: SocketAddr, manner: Manner) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let got = Arc::new(Mutex::new(Vec::new()));
        let service = TraceServiceServer::new(Service { manner, got: got.clone() });
        let server = tokio::spawn(async move {
            let serving = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
            serving.await.expect("it serves");
        });
        Self { address, got, server }
    }

    /// A configuration's section for it.
    pub fn config(&self, sample: f64) -> String {
        format!("[traces]\nendpoint = \"http://{}\"\nsample = {sample:?}\n", self.address)
    }

    /// How many batches it took.
    pub fn batches(&self) -> usize {
        self.got.lock().expect("no holder panics").len() // each is of one resource
    }

    /// What it got, frame by frame.
    ///
    /// # Panics
    /// When two spans bear one id, or one names no frame.
    pub fn traces(&self) -> Vec<Trace> {
        let got = self.got.lock().expect("no holder panics").clone();
        let spans = got.into_iter().flat_map(|of| of.scope_spans).flat_map(|scope| scope.spans);
        let mut traces: BTreeMap<Vec<u8>, Trace> = BTreeMap::new();
        let mut ids = std::collections::BTreeSet::new();
        for span in spans {
            assert!(ids.insert(span.span_id.clone()), "one id twice: {span:?}");
            let is_root = span.name == "frame";
            let of = if is_root { &span.span_id } else { &span.parent_span_id };
            let trace = traces.entry(of.clone()).or_default();
            if is_root { trace.root = span } else { trace.children.push(span) }
        }
        for trace in traces.values_mut() {
            assert_eq!(trace.root.name, "frame", "spans of no frame: {trace:?}");
            trace.children.sort_by_key(|span| (span.start_time_unix_nano, span.end_time_unix_nano));
        }
        traces.into_values().collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}
