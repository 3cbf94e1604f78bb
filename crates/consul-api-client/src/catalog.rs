//! What is registered anywhere, whether it is well or not.
//!
//! # Errors
//!
//! Every method may fail with any [`Error`] but `Configuration` and `NotFound`. With ACLs, what the token may not read
//! is left out without a word.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::blocking::{Blocking, Indexed};
use crate::error::Error;
use crate::transport::{Call, Transport};
use crate::weights::Weights;
use crate::wire::{encode, or_default};

/// The endpoints under `/v1/catalog`.
#[derive(Clone, Copy)]
pub struct Catalog<'a> {
    transport: &'a Transport,
}

/// One instance of a service, and its node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// The name of the node.
    pub node: String,
    /// The address of the node.
    pub address: String,
    /// The id of the instance; unique on its node only.
    #[serde(rename = "ServiceID")]
    pub id: String,
    /// The name of the service.
    #[serde(rename = "ServiceName")]
    pub name: String,
    /// Often empty: that of the node then.
    #[serde(default)]
    pub service_address: String,
    /// 0: none was given.
    #[serde(default)]
    pub service_port: u16,
    /// What to select it by.
    #[serde(default, deserialize_with = "or_default")]
    pub service_tags: Vec<String>,
    /// What else to know.
    #[serde(default, deserialize_with = "or_default")]
    pub service_meta: BTreeMap<String, String>,
    /// How large a part of the calls it wants.
    #[serde(default)]
    pub service_weights: Weights,
}

impl<'a> Catalog<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// The names of all services, each with the tags that any of its instances has.
    pub async fn services(
        self,
        blocking: impl Into<Option<Blocking>>,
    ) -> Result<Indexed<BTreeMap<String, Vec<String>>>, Error> {
        self.transport.send_dc(Call::get("/v1/catalog/services").blocking(blocking.into())).await?.indexed()
    }

    /// The instances of a service; empty if nobody has registered it.
    pub async fn service(
        self,
        name: &str,
        blocking: impl Into<Option<Blocking>>,
    ) -> Result<Indexed<Vec<Entry>>, Error> {
        let call = Call::get(format!("/v1/catalog/service/{}", encode(name)));
        self.transport.send_dc(call.blocking(blocking.into())).await?.indexed()
    }

    /// The names of all datacenters, nearest first.
    pub async fn datacenters(self) -> Result<Vec<String>, Error> {
        self.transport.send(Call::get("/v1/catalog/datacenters")).await?.json()
    }
}
