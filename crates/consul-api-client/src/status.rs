//! Reads the state of the Consul servers.
//!
//! # Errors
//!
//! Every method may return any [`Error`] except `Configuration`, `NotFound` and `Permission`, since no token is needed.
//! [`Error::is_transient`] says whether to retry.

use crate::error::Error;
use crate::transport::{Request, Transport};

/// The endpoints under `/v1/status`.
#[derive(Clone, Copy)]
pub struct Status<'a> {
    transport: &'a Transport,
}

impl<'a> Status<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// Returns the address of the leader; `None` without a leader, when all writes fail.
    pub async fn leader(self) -> Result<Option<String>, Error> {
        let leader: String = self.transport.send_dc(Request::get("/v1/status/leader")).await?.json()?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }

    /// Returns the addresses of all servers.
    pub async fn peers(self) -> Result<Vec<String>, Error> {
        self.transport.send_dc(Request::get("/v1/status/peers")).await?.json()
    }
}
