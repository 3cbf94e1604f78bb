//! The state of the servers.
//!
//! # Errors
//!
//! Every method may fail with any [`Error`] but `Configuration`, `NotFound` and `Permission`: no token is needed.

use crate::error::Error;
use crate::transport::{Call, Transport};

/// The endpoints under `/v1/status`.
#[derive(Clone, Copy)]
pub struct Status<'a> {
    transport: &'a Transport,
}

impl<'a> Status<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// The address of the leader; `None` while there is none, when nothing that is stored can be written.
    pub async fn leader(self) -> Result<Option<String>, Error> {
        let leader: String = self.transport.send_dc(Call::get("/v1/status/leader")).await?.json()?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }

    /// The addresses of all servers.
    pub async fn peers(self) -> Result<Vec<String>, Error> {
        self.transport.send_dc(Call::get("/v1/status/peers")).await?.json()
    }
}
