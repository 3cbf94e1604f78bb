//! What the services of a process say of their builds: the manifests, and the API that answers with them.
//!
//! See: docs/operate/releases.md

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use mesh_proto::mesh::release::v1::release_service_server::{self, ReleaseService, ReleaseServiceServer};
use mesh_proto::mesh::release::v1::{self as wire, Call, GetManifestRequest, GetManifestResponse, Manifest, Schema};
use mesh_release::{Build, Refused};
use mesh_rpc::call::error::{DOMAIN, internal, status};
use mesh_rpc::call::{GrpcServices, Methods, add};
use mesh_runtime::executable;
use mesh_store::Migration;
use prost::Message as _;
use tonic::{Code, Request, Response, Status, async_trait};

use crate::calls::ServiceCalls;
use crate::process::Process;
use crate::schema::SCHEMA;
use crate::service::Service;

/// The full name of the gRPC service that every process serves.
pub(crate) const CONTRACT: &str = release_service_server::SERVICE_NAME;

/// The encoded manifest of a service of a process, which may be left out if there is one. Opens nothing.
///
/// # Errors
///
/// The process does not run the service, or has several; or what a service declares does not exist.
pub(crate) fn write(process: &Process, service: &str) -> anyhow::Result<Vec<u8>> {
    let sets = process.descriptors();
    let methods = Methods::of(&sets);
    let releases = Releases::of(process, sets, &methods, &process.declared_calls(&methods)?);
    let names = releases.names();
    let manifest = releases.get(service).with_context(|| match service {
        "" => format!("this process has several services: --manifest={}", names.join(" or --manifest=")),
        _ => unknown(service, &names),
    })?;
    Ok(manifest?.to_vec())
}

/// The manifests of the services of a process.
pub(crate) struct Releases {
    sets: Vec<&'static [u8]>,
    /// By service: what the services declare, and the whole manifest, encoded, once it was asked for.
    services: BTreeMap<&'static str, (Manifest, OnceLock<Vec<u8>>)>,
}

impl Releases {
    /// Of the services of `process` with their calls, or of the gateway that it is.
    pub(crate) fn of(process: &Process, mut sets: Vec<&'static [u8]>, methods: &Methods, calls: &ServiceCalls) -> Self {
        sets.push(mesh_proto::FILE_DESCRIPTOR_SET);
        let declared = process.services.iter().map(|service| {
            let calls = calls.get(service.name()).into_iter().flatten();
            let calls = calls.map(|call| Call {
                peer: call.peer.to_owned(),
                method: format!("{}/{}", call.method.service, call.method.name),
                optional: call.optional,
            });
            (service.name(), declared(service, calls.collect()))
        });
        let gateway = process.gateway.map(|_| (process.name, gateway(process.name, methods)));
        let services = declared.chain(gateway).map(|(name, manifest)| (name, (manifest, OnceLock::new())));
        Self { sets, services: services.collect() }
    }

    /// Adds the API to the services of a process.
    pub(crate) fn serve(self: Arc<Self>, grpc: &mut GrpcServices) {
        add(grpc, ReleaseServiceServer::from_arc(self));
    }

    /// The builds of the services.
    ///
    /// # Errors
    ///
    /// A contract is refused.
    pub(crate) fn builds(&self) -> Result<Vec<Build>, Refused> {
        self.names().into_iter().filter_map(|name| self.get(name)).map(|manifest| Build::read(manifest?)).collect()
    }

    fn names(&self) -> Vec<&'static str> {
        self.services.keys().copied().collect()
    }

    /// The encoded manifest of a service. An empty name is that of the only service. `None`: there is none of this
    /// name, or without a name there are several.
    fn get(&self, service: &str) -> Option<Result<&[u8], Refused>> {
        let mut all = self.services.iter();
        let (_, (declared, whole)) = match (service, self.services.len()) {
            ("", 1) => all.next(),
            ("", _) => None,
            _ => all.find(|(name, _)| **name == service),
        }?;
        if let Some(whole) = whole.get() {
            return Some(Ok(whole));
        }
        let manifest = mesh_release::complete(declared.clone(), &self.sets);
        Some(manifest.map(|manifest| &**whole.get_or_init(|| manifest.encode_to_vec())))
    }
}

fn unknown(service: &str, names: &[&str]) -> String {
    format!("there is no service `{service}` in this process: expected {}", names.join(" or "))
}

#[async_trait]
impl ReleaseService for Releases {
    async fn get_manifest(
        &self,
        request: Request<GetManifestRequest>,
    ) -> Result<Response<GetManifestResponse>, Status> {
        let (service, names) = (&*request.get_ref().service, self.names());
        let manifest = self.get(service).transpose().map_err(|why| internal(Arc::new(why)))?;
        if manifest.is_none() && !service.is_empty() {
            return Err(status(Code::NotFound, DOMAIN, "SERVICE_NOT_FOUND", unknown(service, &names)));
        }
        let services = names.into_iter().map(str::to_owned).collect();
        let manifest = manifest.unwrap_or_default().to_vec();
        Ok(Response::new(GetManifestResponse { manifest, services }))
    }
}

/// What a service says of itself, without contracts and digest.
fn declared(service: &Service, calls: Vec<Call>) -> Manifest {
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let follows = service.followed().into_iter();
    let lists = [("mesh_migrations", &SCHEMA[..]), ("service_migrations", service.migrations())];
    let schema = service.owns_data().then(|| Schema { lists: lists.map(|(name, all)| list(name, all)).into() });
    Manifest {
        serves: service.contracts().into_iter().chain(service.contracts_of_mesh()).map(str::to_owned).collect(),
        calls,
        publishes: service.published().map(|published| strings(published.types())).unwrap_or_default(),
        follows: follows
            .map(|(source, types)| wire::Followed { source: source.to_owned(), types: strings(types) })
            .collect(),
        stores: service.stores().to_vec(),
        schema,
        ..of_build(service.name())
    }
}

/// A gateway calls each public method. Of the contracts that every service may serve it needs none.
fn gateway(name: &str, methods: &Methods) -> Manifest {
    let services: BTreeSet<_> = methods.services();
    let public = methods.public_services();
    let public: Vec<_> = methods.of_contracts(&public).filter(|method| method.access.is_public()).collect();
    let calls = public.iter().flat_map(|method| {
        let peers = if method.is_shared() { services.iter().copied().collect() } else { vec![method.package()] };
        peers.into_iter().map(|peer| Call {
            peer: peer.to_owned(),
            method: format!("{}/{}", method.service, method.name),
            optional: method.is_shared(),
        })
    });
    Manifest { calls: calls.collect(), ..of_build(name) }
}

fn of_build(service: &str) -> Manifest {
    let (version, revision) = (executable::VERSION.to_owned(), executable::REVISION.to_owned());
    Manifest { service: service.to_owned(), version, revision, ..Manifest::default() }
}

fn list(name: &str, migrations: &[Migration]) -> wire::MigrationList {
    let migrations = migrations.iter().map(|migration| wire::Migration {
        version: migration.version(),
        description: migration.description().to_owned(),
        sql: migration.sql().to_owned(),
        breaks_before: migration.floor().unwrap_or_default(),
    });
    wire::MigrationList { name: name.to_owned(), migrations: migrations.collect() }
}
