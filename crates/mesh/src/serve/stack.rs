//! The layers around every service, in the one place where their order can be read.
//!
//! A call from the network and a call from a peer in the same process go through the same stack: that is what makes
//! them the same call.

use std::any::Any;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Service as _, ServiceExt as _};
use tower_http::catch_panic::CatchPanic;

use super::deadline::Enforce;
use super::drain::EndStreams;
use crate::error::{DOMAIN, internal, status};
use crate::telemetry::{Metrics, Observe};

/// A gRPC service as it stands at the end of the stack.
pub(crate) type GrpcService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The gRPC services of a process by their full name.
pub(crate) type GrpcServices = HashMap<&'static str, GrpcService>;

/// Puts the layers around the services of a process.
pub(crate) fn stack(services: GrpcServices, metrics: Metrics, draining: CancellationToken) -> GrpcService {
    let services = Arc::new(services);
    let dispatch = tower::service_fn(move |request| dispatch(Arc::clone(&services), request));

    // Innermost first. A panic is an answer to whatever is outside of it.
    let caught = CatchPanic::custom(dispatch, answer_panic).map_response(|response| response.map(Body::new));
    let ending = EndStreams::new(draining, caught);
    // A stream's deadline may come before the drain, so it stands around it.
    let timed = Enforce::layer(ending);
    // Outermost, so that what the caller is told is what is counted: panics and expired deadlines, too.
    BoxCloneSyncService::new(Observe::new(timed, metrics))
}

async fn dispatch(services: Arc<GrpcServices>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let name = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    match services.get(name) {
        Some(service) => service.clone().call(request).await,
        None => {
            let message = format!("this process does not serve `{name}`; reflection lists what it serves");
            Ok(status(Code::Unimplemented, DOMAIN, "UNKNOWN_SERVICE", message).into_http())
        }
    }
}

fn answer_panic(panic: Box<dyn Any + Send>) -> Response<Body> {
    let said = panic.downcast_ref::<&str>().map(ToString::to_string);
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    internal(Arc::new(std::io::Error::other(format!("a handler panicked: {said}")))).into_http()
}
