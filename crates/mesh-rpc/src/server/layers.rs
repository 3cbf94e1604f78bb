//! The layers around every service, in the one place where their order can be read.
//!
//! A call from the network and a call from a peer in the same process go through the same stack: that is what makes
//! them the same call. A layer is a function from a handler to a handler.

use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::Service as _;

use super::settings::Limits;
use super::{body_limit, deadline, details, drain, panics, shed};
use crate::call::error::{DOMAIN, status};
use crate::call::{GrpcServices, Handler, handler};
use crate::telemetry::{self, Metrics};

/// Puts the layers around the services of a process.
pub fn stack(services: GrpcServices, limits: Limits, metrics: Metrics, draining: CancellationToken) -> Handler {
    layers(limits, metrics, draining).into_iter().fold(dispatch(services), |handler, (_, layer)| layer(handler))
}

/// A function from a handler to a handler with something around it.
pub type Layer = Box<dyn FnOnce(Handler) -> Handler>;

/// Innermost first. A list, so that the benchmark can tell what each of them costs, by its name.
pub fn layers(limits: Limits, metrics: Metrics, draining: CancellationToken) -> Vec<(&'static str, Layer)> {
    let shedding = metrics.clone();
    vec![
        // A panic is an answer to whatever is outside of it.
        ("panics", Box::new(panics::catch)),
        ("details", Box::new(details::give)),
        ("shed", Box::new(move |handler| shed::shed(handler, limits, shedding))),
        // Around the places: a request has to arrive before it gets one.
        ("body_limit", Box::new(|handler| body_limit::bound(handler, body_limit::IN_FLIGHT))),
        ("drain", Box::new(|handler| drain::end_streams(handler, draining))),
        // Around the drain: a stream's deadline may come before it.
        ("deadline", Box::new(deadline::enforce)),
        // Outermost: what the caller is told is what is counted, panics and expired deadlines, too.
        ("telemetry", Box::new(|handler| telemetry::observe(handler, metrics.server))),
    ]
}

/// Finds the service by its name.
pub fn dispatch(services: GrpcServices) -> Handler {
    handler(move |call| {
        let request = call.request;
        let name = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let service = services.get(name).cloned().ok_or_else(|| {
            let message = format!("this process does not serve `{name}`; reflection lists what it serves");
            status(Code::Unimplemented, DOMAIN, "UNKNOWN_SERVICE", message)
        });
        async move {
            match service {
                Ok(mut service) => {
                    let Ok(response) = service.call(request).await;
                    response
                }
                Err(status) => status.into_http(),
            }
        }
    })
}
