//! The layers around every service, and their order.
//!
//! Guarantees: a call from the network and a call in memory pass the same layers (INV-3).
//!
//! See: decision 0002.

use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::Service as _;

use super::settings::Limits;
use super::{body_limit, compression, deadline, details, drain, panics, shed, status_size};
use crate::call::error::{DOMAIN, status};
use crate::call::{GrpcServices, Handler, handler};
use crate::telemetry::{self, Metrics};

/// All layers around `innermost`, such as [`dispatch`].
pub fn stack(innermost: Handler, limits: Limits, metrics: Metrics, draining: CancellationToken) -> Handler {
    layers(limits, metrics, draining).into_iter().fold(innermost, |handler, (_, layer)| layer(handler))
}

/// A layer: a function from a handler to a handler.
pub type Layer = Box<dyn FnOnce(Handler) -> Handler>;

/// The layers with their names, innermost first. The benchmark measures each one by its name.
pub fn layers(limits: Limits, metrics: Metrics, draining: CancellationToken) -> Vec<(&'static str, Layer)> {
    let shedding = metrics.clone();
    vec![
        // A panic becomes a status for all outer layers.
        ("panics", Box::new(panics::catch)),
        ("details", Box::new(details::add)),
        ("shed", Box::new(move |handler| shed::shed(handler, limits, shedding))),
        // Outside of `details`: a handler sees no compression, and a failure has its details.
        ("compression", Box::new(compression::compress)),
        // Outside of `shed`: a request arrives before its call needs a permit.
        ("body_limit", Box::new(|handler| body_limit::limit(handler, body_limit::MAX_BYTES_IN_FLIGHT))),
        ("drain", Box::new(|handler| drain::end_streams(handler, draining))),
        // Outside of `drain`: a deadline may end a stream first.
        ("deadline", Box::new(move |handler| deadline::enforce(handler, limits.unary_deadline))),
        // Outside of every layer that answers with a status.
        ("status_size", Box::new(status_size::limit)),
        // Outermost: it records the status that the caller receives, after panics and deadlines.
        ("telemetry", Box::new(|handler| telemetry::observe(handler, metrics.server))),
    ]
}

/// Calls the service that the path names.
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
