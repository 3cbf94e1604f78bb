//! The layers around every service, in the one place where their order can be read.
//!
//! A call from the network and a call from a peer in the same process go through the same stack: that is what makes
//! them the same call. A layer is a function from a handler to a handler.

use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::Service as _;

use super::{deadline, drain, intake, panics, reasons, shed};
use crate::config::Limits;
use crate::error::{DOMAIN, status};
use crate::handler::{GrpcServices, Handler, handler};
use crate::telemetry::{self, Metrics};

/// Puts the layers around the services of a process.
pub(crate) fn stack(services: GrpcServices, limits: Limits, metrics: Metrics, draining: CancellationToken) -> Handler {
    layers(limits, metrics, draining).into_iter().fold(dispatch(services), |handler, (_, layer)| layer(handler))
}

pub(crate) type Layer = Box<dyn FnOnce(Handler) -> Handler>;

/// Innermost first. A list, so that the benchmark can tell what each of them costs, by its name.
pub(crate) fn layers(limits: Limits, metrics: Metrics, draining: CancellationToken) -> Vec<(&'static str, Layer)> {
    let shedding = metrics.clone();
    vec![
        // A panic is an answer to whatever is outside of it.
        ("panics", Box::new(panics::catch)),
        ("reasons", Box::new(reasons::give)),
        ("shed", Box::new(move |handler| shed::shed(handler, limits, shedding))),
        // Around the places: a request has to arrive before it gets one.
        ("intake", Box::new(|handler| intake::bound(handler, intake::IN_FLIGHT))),
        ("drain", Box::new(|handler| drain::end_streams(handler, draining))),
        // Around the drain: a stream's deadline may come before it.
        ("deadline", Box::new(deadline::enforce)),
        // Outermost: what the caller is told is what is counted, panics and expired deadlines, too.
        ("telemetry", Box::new(|handler| telemetry::observe(handler, metrics.server))),
    ]
}

pub(crate) fn dispatch(services: GrpcServices) -> Handler {
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
