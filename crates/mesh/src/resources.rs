//! The resources that a service gets when it is built.

use std::collections::BTreeMap;

use mesh_follow::Copied;
use mesh_operations::Operations;
use mesh_rpc::client::{Channel, Peers};
use mesh_runtime::settings::{Setting, Value, Values};
use mesh_store::Store;

/// The resources that a service gets when it is built.
pub struct Resources {
    pub(crate) service: &'static str,
    pub(crate) store: Option<Store>,
    pub(crate) operations: Option<Operations>,
    pub(crate) copies: BTreeMap<&'static str, Copied>,
    pub(crate) peers: Peers,
    pub(crate) settings: Values,
}

impl Resources {
    /// The database of the service.
    ///
    /// # Panics
    ///
    /// If the service has no database: it declares none of [`owns`](crate::Service::owns),
    /// [`works`](crate::Service::works) and [`runs`](crate::Service::runs).
    pub fn store(&self) -> Store {
        match &self.store {
            Some(store) => store.clone(),
            None => panic!("`{}` has no database: declare what it owns with Service::owns", self.service),
        }
    }

    /// The operations of the service.
    ///
    /// # Panics
    ///
    /// If the service declares no long work with [`works`](crate::Service::works) or [`runs`](crate::Service::runs).
    pub fn operations(&self) -> Operations {
        match &self.operations {
            Some(operations) => operations.clone(),
            None => panic!("`{}` does no long work: declare it with Service::works or Service::runs", self.service),
        }
    }

    /// The copy of a source that the service follows. Call [`Copied::complete`] before a read of it.
    ///
    /// # Panics
    ///
    /// If the service does not follow the source with [`follows`](crate::Service::follows).
    pub fn copy(&self, source: &str) -> Copied {
        match self.copies.get(source) {
            Some(copied) => copied.clone(),
            None => panic!("`{}` does not follow `{source}`: declare it with Service::follows", self.service),
        }
    }

    /// The value of a setting of the service.
    ///
    /// # Panics
    ///
    /// If the service does not declare it with [`setting`](crate::Service::setting).
    pub fn setting<T: Value>(&self, setting: &Setting<T>) -> T {
        match self.settings.get(setting) {
            Some(value) => value,
            None => panic!("`{}` does not declare the setting `{}`", self.service, setting.name()),
        }
    }

    /// A channel to another service, in this process or elsewhere:
    /// `CatalogServiceClient::new(resources.channel("catalog"))`.
    pub fn channel(&self, service: &'static str) -> Channel {
        self.peers.channel(service)
    }
}
