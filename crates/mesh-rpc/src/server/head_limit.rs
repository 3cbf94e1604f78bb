//! The limit for the headers of a call: an answer in gRPC's words, where HTTP/2 alone would answer 431.

use http::{HeaderMap, Uri};
use tonic::{Code, Status};

use crate::call::error::{DOMAIN, status};

/// The largest size of the headers of a request, in bytes.
pub(super) const MAX_HEADER_BYTES: usize = 16 * 1024;
/// What HTTP/2 counts for a header beside its name and value.
const OVERHEAD: usize = 32;

/// Checks the size of a request's headers, as HTTP/2 counts it.
///
/// # Errors
///
/// RESOURCE_EXHAUSTED, reason `HEADERS_TOO_LARGE`. The caller must not retry unchanged.
pub fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Status> {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD);
    let address = uri.path_and_query().map_or(0, |path| path.as_str().len());
    if address + fields.sum::<usize>() <= MAX_HEADER_BYTES {
        return Ok(());
    }
    let message = "the headers of the request exceed 16 KiB together";
    Err(status(Code::ResourceExhausted, DOMAIN, "HEADERS_TOO_LARGE", message))
}
