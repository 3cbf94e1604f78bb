//! Finds what runs: asks the instances that Consul knows, or those at given addresses, for their manifests.
//!
//! Guarantees:
//! - Instances with one digest of their program are asked once.
//! - An instance that does not answer within 2 s, or answers for another service, is listed as unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use consul_api_client::health::{CheckStatus, Instance};
use futures_util::future::join_all;
use mesh_proto::mesh::release::v1::release_service_client::ReleaseServiceClient;
use mesh_proto::mesh::release::v1::{GetManifestRequest, GetManifestResponse};
use mesh_release::{Build, Running};
use prost::Message as _;
use tokio::time::timeout;
use tonic::Code;

use super::files::consumers;
use crate::reflection;
use crate::shown;
use crate::target::{Address, Consul, Process, Target};

/// The limit for the answer of an instance.
const LIMIT: Duration = Duration::from_secs(2);
/// The largest answer, in bytes.
const LARGEST: usize = 64 << 20;

/// Whom to ask, and for what else.
#[derive(Args)]
pub(crate) struct AskOptions {
    /// Ask this process, too, at all addresses of the host: for a registry `static` or `dns`. Several are given one by one
    #[arg(long = "at", value_name = "HOST:PORT")]
    at: Vec<Address>,
    /// The folder with manifests of clients outside of the mesh, which count as running [default: deploy/consumers, if it is
    /// there]
    #[arg(long, value_name = "FOLDER")]
    consumers: Option<PathBuf>,
    /// Fail if an instance cannot say what it calls
    #[arg(long)]
    pub(super) strict: bool,
}

impl AskOptions {
    /// The clients outside of the mesh.
    ///
    /// # Errors
    ///
    /// One cannot be read: one line.
    pub(super) fn consumers(&self) -> Result<Vec<Build>, String> {
        consumers(self.consumers.as_deref())
    }
}

/// What runs.
pub(super) struct Found {
    pub(super) running: Vec<Running>,
    /// Instances of which something is not known, a sentence each.
    pub(super) unknown: Vec<String>,
    /// Who was asked.
    pub(super) origin: String,
}

/// Asks what runs, beside the clients `outside` of the mesh.
///
/// # Errors
///
/// Nobody could be asked.
pub(super) async fn ask(
    options: &AskOptions,
    outside: Vec<Build>,
    target: impl AsyncFnOnce() -> anyhow::Result<Target>,
) -> anyhow::Result<Found> {
    let mut found = Found { running: Vec::new(), unknown: Vec::new(), origin: String::new() };
    if options.at.is_empty() {
        match target().await? {
            Target::Consul(consul) => found.registered(&consul).await?,
            Target::Process(process) => {
                found.origin = process.address.to_string();
                found.process(&process).await;
            }
        }
    } else {
        found.at(&options.at).await?;
    }
    found.running.extend(outside.into_iter().map(|build| Running { build, instances: 1 }));
    found.running.sort_by_key(|one| (one.build.service().to_owned(), one.build.manifest.version.clone()));
    Ok(found)
}

impl Found {
    /// Asks the instances that Consul knows, but for those that are critical, which no service calls.
    async fn registered(&mut self, consul: &Consul) -> anyhow::Result<()> {
        self.origin = format!("Consul {}", consul.address);
        let mut groups: BTreeMap<(String, String), Vec<Instance>> = BTreeMap::new();
        for service in consul.grpc_services().await? {
            for instance in consul.instances(&service).await? {
                if instance.status() == CheckStatus::Critical || !is_a_service(&instance) {
                    continue;
                }
                // Programs with one digest are the same.
                let same = instance.service.meta.get("digest").filter(|digest| !digest.is_empty());
                let same = same.unwrap_or(&instance.service.id).clone();
                groups.entry((service.clone(), same)).or_default().push(instance);
            }
        }
        let asked = groups
            .iter()
            .map(|((service, _), instances)| async move { (service, instances, first(service, instances).await) });
        for (service, instances, answer) in join_all(asked).await {
            self.add(service, instances.len(), answer);
        }
        Ok(())
    }

    /// Asks all processes at these hosts.
    async fn at(&mut self, at: &[Address]) -> anyhow::Result<()> {
        self.origin = at.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        for host in at {
            let addresses = tokio::net::lookup_host(host.to_string()).await;
            let addresses = addresses.with_context(|| format!("{host} has no address"))?;
            for address in addresses {
                let address: Address = address.to_string().parse()?;
                match timeout(LIMIT, Process::connect(address.clone(), None)).await {
                    Ok(Ok(process)) => self.process(&process).await,
                    Ok(Err(error)) => self.unknown.push(format!("{error:#}")),
                    Err(_) => self.unknown.push(format!("{address} did not answer within {LIMIT:?}")),
                }
            }
        }
        Ok(())
    }

    /// Asks a process for all of its services.
    async fn process(&mut self, process: &Process) {
        let services = match get(process, "").await {
            Ok(Ok(answer)) => Ok(answer.services),
            Ok(Err(_)) => foreign_services(process).await,
            Err(why) => Err(why),
        };
        match services {
            Ok(services) => {
                for service in services {
                    let answer = manifest(process, &service).await;
                    self.add(&service, 1, answer);
                }
            }
            Err(why) => self.unknown.push(format!("the process at {}: {why:#}", process.address)),
        }
    }

    fn add(&mut self, service: &str, instances: usize, answer: anyhow::Result<Build>) {
        match answer {
            Ok(build) => {
                if build.manifest.version.is_empty() {
                    self.unknown.push(format!("{service}: it has no manifest, so it is not known what it calls"));
                }
                match self.running.iter_mut().find(|running| running.build.is_same(&build)) {
                    Some(same) => same.instances += instances,
                    None => self.running.push(Running { build, instances }),
                }
            }
            Err(why) => self.unknown.push(format!("{service}: {why:#}")),
        }
    }
}

/// Whether an instance is a service, and no proxy or gateway of Consul Connect.
fn is_a_service(instance: &Instance) -> bool {
    instance.service.kind.is_empty() || instance.service.kind == "typical"
}

/// The build of the first of equal instances that answers.
async fn first(service: &str, instances: &[Instance]) -> anyhow::Result<Build> {
    let mut failed = anyhow!("it has no address");
    for address in instances.iter().filter_map(Address::of) {
        let asked = async {
            let process = Process::connect(address.clone(), Some(service)).await?;
            manifest(&process, service).await
        };
        match timeout(2 * LIMIT, asked).await {
            Ok(Ok(build)) => return Ok(build),
            Ok(Err(why)) => failed = why,
            Err(_) => failed = anyhow!("{address} did not answer within {LIMIT:?}"),
        }
    }
    Err(failed)
}

/// The build of a service at a process. One of another framework has no manifest: what it serves is known by reflection.
async fn manifest(process: &Process, service: &str) -> anyhow::Result<Build> {
    let answer = match get(process, service).await? {
        Ok(answer) => answer,
        Err(_) => {
            let (serves, contracts) = timeout(LIMIT, reflection::contracts(process)).await??;
            return Ok(Build::foreign(service, serves, &contracts)?);
        }
    };
    let manifest = answer.manifest.with_context(|| format!("{} answers without a manifest", process.address))?;
    if manifest.service != service {
        bail!("{} says that it is `{}`", process.address, shown::one_line(&manifest.service));
    }
    Ok(Build::read(&manifest.encode_to_vec())?)
}

/// The services of a process of another framework: the first segments of the packages that it serves.
async fn foreign_services(process: &Process) -> anyhow::Result<Vec<String>> {
    let served = timeout(LIMIT, reflection::served(process)).await??;
    let names: BTreeSet<_> = served.iter().filter_map(|contract| contract.split('.').next()).collect();
    let own = names.into_iter().filter(|name| !["google", "grpc", "mesh"].contains(name));
    Ok(own.map(str::to_owned).collect())
}

/// The answer of a process; an inner error if it does not know the call.
async fn get(process: &Process, service: &str) -> anyhow::Result<Result<GetManifestResponse, anyhow::Error>> {
    let request = GetManifestRequest { service: service.to_owned() };
    let mut client = ReleaseServiceClient::new(process.channel.clone()).max_decoding_message_size(LARGEST);
    let answer = timeout(LIMIT, process.answer(client.get_manifest(request))).await;
    match answer.map_err(|_| anyhow!("{} did not answer within {LIMIT:?}", process.address))?? {
        Ok(answer) => Ok(Ok(answer)),
        Err(status) if status.code() == Code::Unimplemented => Ok(Err(anyhow!(shown::status(&status)))),
        Err(status) => bail!(shown::status(&status)),
    }
}
