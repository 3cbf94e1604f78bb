//! One address that is called as it is: without discovery, retries, balancing and records.
//!
//! For an app beside this process, whose callers do all of that, and for a question to one instance of a peer.

use std::net::SocketAddr;

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use tonic::body::Body;

use super::connections::{Connections, Dial, Unanswered};
use super::http2::Received;
use crate::call::body::PassedThrough;

/// The connections to one address.
pub struct Direct {
    connections: Connections,
    authority: Authority,
}

impl Direct {
    /// To a program beside this process, without TLS. Opens no connection yet.
    ///
    /// # Panics
    ///
    /// Never: the text of an address is an authority.
    #[expect(clippy::unwrap_used)]
    pub fn to(address: SocketAddr) -> Self {
        let authority: Authority = address.to_string().parse().unwrap();
        Self { connections: Connections::to(authority.clone(), Dial::default()), authority }
    }

    /// To one instance of a peer, whose failures the caller reports. Opens no connection yet.
    pub fn to_instance(authority: Authority, dial: Dial) -> Self {
        Self { connections: Connections::to(authority.clone(), dial).unlogged(), authority }
    }

    /// Sends a request, and waits for the head of its response. Dropping the future, or the body, resets the stream.
    ///
    /// # Errors
    ///
    /// No response has arrived. The error tells whether the app may have begun.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Received>, Unanswered> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(self.authority.clone()));
        // A scheme, an authority and a path always form a URI.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.body_mut() = Body::new(PassedThrough::of(std::mem::take(request.body_mut())));
        self.connections.send(&mut request).await
    }
}
