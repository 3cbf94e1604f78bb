//! Tests of calls over the network, to a server of HTTP/2 that answers as a test says.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod answers; // answers that are compressed, malformed or no gRPC
mod peer; // the server, and channels to it
mod promises; // budget, ejection, buffer, deadline
mod retries; // retries and pushbacks
