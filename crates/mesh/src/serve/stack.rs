//! The layers around every service, in the one place where their order can be read.
//!
//! A call from the network and a call from a peer in the same process go through the same stack: that is what makes
//! them the same call. A layer is a function from a handler to a handler.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tower::Service as _;

use super::{deadline, drain, intake, shed};
use crate::config::Limits;
use crate::error::{DOMAIN, internal, status, with_reason};
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
        ("panics", Box::new(catch_panics)),
        ("reasons", Box::new(give_reasons)),
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
    handler(move |request| {
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

fn catch_panics(next: Handler) -> Handler {
    handler(move |request| {
        // A handler that has panicked is never called again: there is nothing to find in an odd state.
        let answering = AssertUnwindSafe(next(request)).catch_unwind();
        async move { answering.await.unwrap_or_else(|panic| panicked(panic.as_ref()).into_http()) }
    })
}

fn give_reasons(next: Handler) -> Handler {
    handler(move |request| {
        let answering = next(request);
        async move {
            let mut response = answering.await;
            match Status::from_header_map(response.headers()) {
                Some(bare) if bare.code() != Code::Ok && bare.details().is_empty() => {
                    // As its handler gave it: what came out of the headers has no cause.
                    with_reason(response.extensions_mut().remove().unwrap_or(bare)).into_http()
                }
                _ => response,
            }
        }
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Status {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    internal(Arc::new(std::io::Error::other(format!("a handler panicked: {said}"))))
}
