//! Reads the keys of services: `services.NAME` and `static`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use mesh_rpc::discovery::Registry;
use mesh_runtime::settings::{Key, Settings, Values, parse};
use mesh_store::{Database, Databases, Limits};

use crate::process::Process;
use crate::service::Service;

/// The configuration of the services of a process.
pub(super) struct Services {
    /// `services.NAME.listen` of the last service of this process, if it is set.
    pub(super) listen: Option<SocketAddr>,
    pub(super) databases: BTreeMap<String, Database>,
    pub(super) database_limits: BTreeMap<String, Limits>,
    pub(super) own: BTreeMap<String, Values>,
}

impl Services {
    /// Reads the keys under `services` and `static`. All processes of a system share a file, so it may name services of
    /// other processes: all that are `known`. The keys of mesh are checked for them, too; their processes check their
    /// own settings.
    pub(super) fn take(
        process: &Process,
        known: &BTreeSet<&'static str>,
        data_dir: PathBuf,
        registry: &mut Registry,
        settings: &mut Settings,
    ) -> Self {
        let running: BTreeMap<&str, &Service> =
            process.services.iter().map(|service| (service.name(), service)).collect();
        let mut services =
            Self { listen: None, databases: BTreeMap::new(), database_limits: BTreeMap::new(), own: BTreeMap::new() };
        let (places, limits) = (Databases::take(data_dir, settings), Limits::take(settings));
        for name in known.iter().copied() {
            let service = running.get(name);
            let key = Key::new(listen_key(name), parse::ADDRESS);
            // In a process of several services, the key has no effect.
            let here = service.is_some() && process.alone;
            let listen = settings.optional(&if here { key } else { key.elsewhere() }, parse::address);
            registry.take_addresses(name, listen, settings);
            // Whether a service of another process owns data is not known here.
            if service.is_none_or(|service| service.owns_data()) {
                let database = places.of_service(name, service.is_some(), settings);
                let limits = limits.of_service(name, service.is_some(), settings);
                if service.is_some() {
                    services.databases.insert(name.to_owned(), database);
                    services.database_limits.insert(name.to_owned(), limits);
                }
            }
            if let Some(service) = service {
                services.listen = listen;
                services.own.insert(name.to_owned(), Values::take(name, service.settings(), settings));
            } else {
                settings.shared(&format!("services.{name}"));
            }
        }
        services
    }
}

/// The address of the process. For a service in a process of its own, `services.NAME.listen` wins over `listen`.
pub(super) fn take_listen(process: &Process, own: Option<SocketAddr>, settings: &mut Settings) -> SocketAddr {
    let key = Key::new("listen", parse::ADDRESS);
    let own = own.filter(|_| process.alone);
    if let Some(own) = own {
        settings.optional(&key.elsewhere(), parse::address);
        return own;
    }
    let default = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), process.port);
    settings.take(&key, default, parse::address)
}

/// The key that wins for the address of a process.
pub(super) fn own_listen_key(process: &Process) -> String {
    if process.alone { listen_key(process.name) } else { "listen".to_owned() }
}

fn listen_key(service: &str) -> String {
    format!("services.{service}.listen")
}
