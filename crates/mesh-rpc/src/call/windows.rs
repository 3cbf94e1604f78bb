//! The flow control of HTTP/2 ([RFC 9113, 5.2](https://www.rfc-editor.org/rfc/rfc9113#section-5.2)), for clients and
//! servers.
//!
//! Guarantees: a stream that is not read holds no more than its own window. The window of a connection is 64 of them:
//! so many stopped readers do not block the other calls on it, and it bounds the memory that they take.

/// The bytes that a stream may have in flight.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// The bytes that all streams of a connection may have in flight.
pub(crate) const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;
