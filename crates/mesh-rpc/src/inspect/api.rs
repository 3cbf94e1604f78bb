//! Serves `InspectService`.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, stream};
use mesh_proto::mesh::inspect::v1::inspect_service_server::{self, InspectService, InspectServiceServer};
use mesh_proto::mesh::inspect::v1::{
    GetProcessRequest, GetProcessResponse, GetTraceRequest, GetTraceResponse, ListCallsRequest, ListCallsResponse,
    TailLogsRequest, TailLogsResponse, WatchRequest, WatchResponse,
};
use mesh_runtime::executable;
use tokio::time::{MissedTickBehavior, interval};
use tonic::{Code, Request, Response, Status, async_trait};
use tracing::Level;
use uuid::Uuid;

use super::watch::{Live, Reader};
use super::{logs, wire};
use crate::call::error::{DOMAIN, invalid_fields, status};
use crate::call::{GrpcServices, Violations, add};
use crate::server::Health;
use crate::telemetry::{LogLines, Metrics};

/// The full name of the gRPC service.
pub const CONTRACT: &str = inspect_service_server::SERVICE_NAME;

/// The time between two messages of a watch, unless the reader asks for another.
const INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// The calls of a page, unless the reader asks for fewer or more.
const PAGE: i32 = 100;
const LARGEST_PAGE: i32 = 1000;
/// The longest name of a method in a request.
const LONGEST_NAME: usize = 512;

/// What a process says of itself.
pub struct Inspect {
    about: GetProcessResponse,
    live: Live,
}

impl Inspect {
    /// `about` has the process, its listeners, services, calls and configuration. The rest is filled in.
    pub fn new(about: GetProcessResponse, metrics: Metrics, health: Health) -> Self {
        let about = GetProcessResponse {
            start_id: Uuid::new_v4().simple().to_string(),
            started_at: Some(wire::time(SystemTime::now())),
            version: executable::VERSION.to_owned(),
            ..about
        };
        let live = Live { start_id: about.start_id.clone(), metrics, health };
        Self { about, live }
    }

    /// Adds the API to the services of a process.
    pub fn serve(self, grpc: &mut GrpcServices) {
        add(grpc, InspectServiceServer::new(self));
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl InspectService for Inspect {
    async fn get_process(&self, _: Request<GetProcessRequest>) -> Result<Response<GetProcessResponse>, Status> {
        let digest = executable::known_digest().unwrap_or_default().to_owned();
        Ok(GetProcessResponse { digest, ..self.about.clone() }.into())
    }

    type WatchStream = Messages<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let asked = request.into_inner().interval;
        let asked = asked.map_or(Ok(INTERVAL), Duration::try_from).ok();
        let asked = asked.filter(|asked| (SHORTEST..=LONGEST).contains(asked));
        let mut bad = Violations::default();
        bad.check(asked.is_some(), "interval", "must be 100 ms to 60 s");
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;
        // The first tick is at once.
        let mut ticks = interval(asked.unwrap_or(INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let messages = stream::unfold((ticks, Reader::new(self.live.clone())), |(mut ticks, mut reader)| async {
            ticks.tick().await;
            Some((Ok(reader.next()), (ticks, reader)))
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn list_calls(&self, request: Request<ListCallsRequest>) -> Result<Response<ListCallsResponse>, Status> {
        let ListCallsRequest { page_size, problems, method } = request.into_inner();
        let mut bad = Violations::default();
        bad.check((0..=LARGEST_PAGE).contains(&page_size), "page_size", "must be 1 to 1000, or 0 for 100");
        bad.check(method.len() <= LONGEST_NAME, "method", "must be the name of a method, or empty");
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;
        let most = if page_size == 0 { PAGE } else { page_size };
        let method = (!method.is_empty()).then_some(&*method);
        let (calls, since) = self.live.metrics.edges.kept(usize::try_from(most).unwrap_or_default(), method, problems);
        let calls = calls.iter().map(wire::kept).collect();
        Ok(ListCallsResponse { calls, kept_since: Some(wire::time(since)) }.into())
    }

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Result<Response<GetTraceResponse>, Status> {
        let trace = wire::parse_trace(&request.get_ref().trace);
        let mut bad = Violations::default();
        bad.check(trace.is_some(), "trace", TRACE);
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;
        let calls = self.live.metrics.edges.trace(trace.unwrap_or_default());
        if calls.is_empty() {
            let message = "no call of the trace is kept: a process keeps those that fail or are slow (dashboard.slow), and \
                           a sample of others";
            return Err(status(Code::NotFound, DOMAIN, "TRACE_NOT_FOUND", message));
        }
        Ok(GetTraceResponse { calls: calls.iter().map(wire::kept).collect() }.into())
    }

    type TailLogsStream = Messages<TailLogsResponse>;

    async fn tail_logs(&self, request: Request<TailLogsRequest>) -> Result<Response<Self::TailLogsStream>, Status> {
        let TailLogsRequest { level, trace, end } = request.into_inner();
        let all = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        let (known, found) = (all.into_iter().find(|known| wire::level(*known) == level), wire::parse_trace(&trace));
        let mut bad = Violations::default();
        bad.check(level.is_empty() || known.is_some(), "level", "must be error, warn, info, debug or trace, or empty");
        bad.check(trace.is_empty() || found.is_some(), "trace", format!("{TRACE}, or empty"));
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;
        let asked = logs::Asked { level: known, trace: found, end };
        let messages = stream::unfold(logs::Reader::new(LogLines::of_process(), asked), |mut reader| async {
            Some((Ok(reader.next().await?), reader))
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

const TRACE: &str = "must be the 32 hexadecimal digits of a trace";
