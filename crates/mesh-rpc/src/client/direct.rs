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
        let dial = Dial { is_beside: true, ..Dial::default() };
        Self { connections: Connections::to(authority.clone(), dial), authority }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    /// A server that says no more after the first request of a connection, and the requests.
    async fn hung() -> (SocketAddr, mpsc::Receiver<impl Sized>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, (send, requests)) = (listener.local_addr().unwrap(), mpsc::channel(2));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let request = connection.accept().await.unwrap().unwrap();
                let _ = send.send((connection, request)).await;
            }
        });
        (address, requests)
    }

    #[tokio::test]
    async fn program_beside_may_be_silent_and_an_instance_may_not() {
        let (address, mut requests) = hung().await;
        let instance = Direct::to_instance(address.to_string().parse().unwrap(), Dial::default());
        let [app, instance] = [Direct::to(address), instance].map(|direct| {
            let request = Request::post("/test.v1.Test/Follow").body(Body::empty()).unwrap();
            tokio::spawn(async move { direct.send(request).await.map(drop) })
        });
        let _held = (requests.recv().await.unwrap(), requests.recv().await.unwrap());
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(instance.is_finished() && matches!(instance.await.unwrap(), Err(Unanswered::Lost(_))));
        assert!(!app.is_finished(), "{:?}", app.await);
    }
}
