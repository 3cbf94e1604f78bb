//! Lists all services and instances, regardless of health.
//!
//! # Errors
//!
//! Every method may return any [`Error`] except `Configuration` and `NotFound`. [`Error::is_transient`] says whether to
//! retry. With ACLs, Consul silently omits entries that the token may not read.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::blocking::{Blocking, Indexed};
use crate::error::Error;
use crate::transport::{Request, Transport};
use crate::weights::Weights;
use crate::wire::{encode, or_default};

/// The endpoints under `/v1/catalog`.
#[derive(Clone, Copy)]
pub struct Catalog<'a> {
    transport: &'a Transport,
}

/// One instance of a service and its node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// The name of the node.
    pub node: String,
    /// The address of the node.
    pub address: String,
    /// The id of the instance, unique on its node only.
    #[serde(rename = "ServiceID")]
    pub id: String,
    /// The name of the service.
    #[serde(rename = "ServiceName")]
    pub name: String,
    /// The host to connect to. Empty: use the node's address.
    #[serde(default)]
    pub service_address: String,
    /// The port to connect to. 0: none was registered.
    #[serde(default)]
    pub service_port: u16,
    /// The tags.
    #[serde(default, deserialize_with = "or_default")]
    pub service_tags: Vec<String>,
    /// The metadata.
    #[serde(default, deserialize_with = "or_default")]
    pub service_meta: BTreeMap<String, String>,
    /// The load-balancing weights.
    #[serde(default)]
    pub service_weights: Weights,
}

impl<'a> Catalog<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// Returns the names of all services, each with the tags of all its instances.
    pub async fn services(
        self,
        blocking: impl Into<Option<Blocking>>,
    ) -> Result<Indexed<BTreeMap<String, Vec<String>>>, Error> {
        self.transport.send_dc(Request::get("/v1/catalog/services").blocking(blocking.into())).await?.indexed()
    }

    /// Returns the instances of a service; empty if there are none.
    pub async fn service(
        self,
        name: &str,
        blocking: impl Into<Option<Blocking>>,
    ) -> Result<Indexed<Vec<Entry>>, Error> {
        let request = Request::get(format!("/v1/catalog/service/{}", encode(name)));
        self.transport.send_dc(request.blocking(blocking.into())).await?.indexed()
    }

    /// Returns the names of all datacenters, nearest first.
    pub async fn datacenters(self) -> Result<Vec<String>, Error> {
        self.transport.send(Request::get("/v1/catalog/datacenters")).await?.json()
    }
}
