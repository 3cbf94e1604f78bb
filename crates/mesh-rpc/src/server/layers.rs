//! The layers around every service, and their order.
//!
//! Guarantees: a call from the network and a call in memory pass the same layers (INV-3).
//!
//! See: decision 0002.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::access::Access;
use super::answer::{Answer as _, Services};
use super::body_limit::{BodyLimit, MAX_BYTES_IN_FLIGHT};
use super::compression::Compression;
use super::consistency::{KnownPlaces, OwnWrites};
use super::deadline::Deadlines;
use super::details::Details;
use super::drain::Drain;
use super::media_type::refuse_format;
use super::panics::Panics;
use super::request::arrived;
use super::settings::Limits;
use super::shed::Shed;
use super::status_size::StatusSize;
use crate::auth::Gate;
use crate::call::error::{DOMAIN, status};
use crate::call::{Call, GrpcServices, Handler, Protocol};
use crate::telemetry::{self, Metrics};

/// All layers around `innermost`, such as [`dispatch`]. Each line is around those before it.
pub fn stack(
    innermost: Handler,
    limits: Limits,
    metrics: Metrics,
    draining: CancellationToken,
    places: KnownPlaces,
    gate: Gate,
) -> Handler {
    // A panic becomes a status for all outer layers.
    let next = Panics(Services(innermost));
    let next = Details(next);
    let next = Shed::around(next, limits, metrics.clone());
    // Outside of `Details`: a handler sees no compression, and a failure has its details.
    let next = Compression::around(next);
    // Outside of `Shed`: a request arrives before its call needs a permit.
    let next = BodyLimit::around(next, MAX_BYTES_IN_FLIGHT);
    // Outside of `BodyLimit`: a call that waits for a copy takes no bytes and no permit.
    let next = OwnWrites { next, places };
    let next = Drain { next, draining };
    // Outside of `Drain`: a deadline may end a stream first.
    let next = Deadlines { next, unary_deadline: limits.unary_deadline };
    // Outside of every layer that takes bytes, permits or time: a call that is refused costs nothing of them.
    let next = Access { next, gate };
    // Outside of every layer that answers with a status.
    let next = Arc::new(StatusSize(next));
    // Outermost: it records the status that the caller receives, after panics and deadlines.
    let answer = move |call: Call| {
        let next = Arc::clone(&next);
        async move { next.answer(arrived(call)).await }
    };
    telemetry::observe(answer, metrics.edges)
}

/// Calls the service that the path names, or `others`.
pub fn dispatch(services: GrpcServices, others: Option<Handler>) -> Handler {
    Arc::new(move |call| {
        let path = call.request.uri().path();
        let name = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        // The path of HTTP names no contract.
        let service = services.get(name).filter(|_| call.method.protocol == Protocol::Grpc);
        match (service, &others) {
            (Some(service), _) => match refuse_format(call.request.headers()) {
                Some(refused) => Box::pin(std::future::ready(refused)),
                None => service.answer(call.request),
            },
            (None, Some(others)) => others(call),
            (None, None) => {
                let message = format!("this process does not serve `{name}`; reflection lists what it serves");
                let status = status(Code::Unimplemented, DOMAIN, "UNKNOWN_SERVICE", message);
                Box::pin(std::future::ready(status.into_http()))
            }
        }
    })
}
