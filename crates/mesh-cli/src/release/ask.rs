//! Finds what runs: asks the instances that Consul knows, or those at given addresses, for their manifests.
//!
//! Guarantees:
//! - Of instances with one digest of their program, the first answer counts.
//! - An instance that does not answer within 2 s, or answers for another service, is listed as unknown. All are asked
//!   at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use consul_api_client::health::Instance;
use futures_util::future::{join_all, select_ok};
use mesh_proto::mesh::release::v1::release_service_client::ReleaseServiceClient;
use mesh_proto::mesh::release::v1::{GetManifestRequest, GetManifestResponse, Manifest};
use mesh_release::{Build, Running};
use mesh_rpc::discovery::{is_passing, is_service};
use tokio::time::timeout;
use tonic::Code;

use super::files::consumers;
use crate::shown;
use crate::target::{Address, Consul, Process, Target};
use crate::{credentials, reflection};

/// The limit for the answer of an instance.
const LIMIT: Duration = Duration::from_secs(2);
/// The largest answer, in bytes.
const LARGEST: usize = 64 << 20;
/// Of so many instances with one digest, one answers.
const EQUAL: usize = 32;
/// No process has more services.
const MOST: usize = 1000;

/// The processes to ask, and the clients outside of the mesh.
#[derive(Args)]
pub(crate) struct AskOptions {
    /// Ask this process, at all addresses of the host, in place of those that `mesh` finds, or beside them if --consul
    /// is given: for a registry `static` or `dns`, or a gateway. Several are given one by one
    #[arg(long = "at", value_name = "HOST:PORT")]
    pub(super) at: Vec<Address>,
    /// Whether `--consul` was given.
    #[arg(skip)]
    pub(super) consul: bool,
    /// The folder with manifests of clients outside of the mesh, which count as running [default: deploy/consumers, if
    /// it is there]
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
#[derive(Default)]
pub(super) struct Found {
    pub(super) running: Vec<Running>,
    /// Instances of which something is not known, a sentence each.
    pub(super) unknown: Vec<String>,
    /// The services of which an instance did not answer; `None` stands for those of a process that did not.
    silent: BTreeSet<Option<String>>,
    /// What was asked.
    pub(super) origin: String,
    /// The names of services, by what runs.
    services: BTreeSet<String>,
    /// The names of clients outside of the mesh.
    outside: BTreeSet<String>,
}

/// The answers for the services of a process.
type Builds = Vec<(String, anyhow::Result<Build>)>;

/// Asks what runs, beside the clients `outside` of the mesh.
///
/// # Errors
///
/// No process could be asked, or no instance answered.
pub(super) async fn ask(
    options: &AskOptions,
    outside: Vec<Build>,
    tls: bool,
    target: impl AsyncFnOnce() -> anyhow::Result<Target>,
) -> anyhow::Result<Found> {
    let mut found = Found::default();
    if options.at.is_empty() || options.consul {
        match target().await? {
            Target::Consul(consul) => found.registered(&consul).await?,
            Target::Process(process) => {
                found.origin = process.address.to_string();
                found.process(builds(&process).await);
            }
        }
    } else {
        credentials::read(tls)?;
    }
    found.at(&options.at).await?;
    // With nothing registered it is the first deployment.
    if let (true, Some(first)) = (found.running.is_empty(), found.unknown.first()) {
        let more = found.unknown.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        bail!("no instance answered, so it is not known what runs: {}{more}", shown::sentence(first));
    }
    let running = found.running.iter().map(|running| &running.build);
    found.services = running.chain(&outside).flat_map(peers).map(str::to_owned).collect();
    found.services.extend(found.running.iter().map(|running| running.build.service().to_owned()));
    found.services.extend(found.silent.iter().flatten().cloned());
    found.outside = outside.iter().map(|build| build.service().to_owned()).collect();
    found.running.extend(outside.into_iter().map(|build| Running { build, instances: 1 }));
    found.running.sort_by_key(|one| (one.build.service().to_owned(), one.build.manifest.version.clone()));
    Ok(found)
}

/// The services that a build calls and follows.
fn peers(build: &Build) -> impl Iterator<Item = &str> {
    let Manifest { calls, follows, .. } = &build.manifest;
    calls.iter().map(|call| &*call.peer).chain(follows.iter().map(|followed| &*followed.source))
}

impl Found {
    /// Checks that no client outside of the mesh has the name of a service: it would count as a build of it.
    ///
    /// # Errors
    ///
    /// One has: one line.
    pub(super) fn distinct(&self, deploy: &[Build]) -> Result<(), String> {
        let named = |service: &str| self.outside.contains(service).then(|| service.to_owned());
        let deployed = deploy.iter().flat_map(|build| peers(build).chain([build.service()]));
        let mut services = self.services.iter().map(String::as_str).chain(deployed);
        match services.find_map(named) {
            None => Ok(()),
            Some(name) => Err(format!(
                "{name}.manifest of a client outside of the mesh has the name of a service: name it after the client, such as \
                 phones-1.4.manifest"
            )),
        }
    }

    /// Asks the instances that Consul knows, but for those that are critical, which no service calls.
    async fn registered(&mut self, consul: &Consul) -> anyhow::Result<()> {
        self.origin = format!("Consul {}", consul.address);
        let mut groups: BTreeMap<(String, String), Vec<Instance>> = BTreeMap::new();
        for service in consul.grpc_services().await? {
            for instance in consul.instances(&service).await? {
                if !is_passing(&instance) || !is_service(&instance) {
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
        let origins = Some(std::mem::take(&mut self.origin)).filter(|origin| !origin.is_empty());
        self.origin = origins.into_iter().chain(at.iter().map(ToString::to_string)).collect::<Vec<_>>().join(", ");
        let found = join_all(at.iter().map(|host| async move {
            let found = within(host, async { Ok(tokio::net::lookup_host(host.to_string()).await?) }).await;
            found.with_context(|| format!("{host} has no address"))
        }));
        let mut addresses = Vec::new();
        for found in found.await {
            for address in found? {
                addresses.push(address.to_string().parse::<Address>()?);
            }
        }
        let asked =
            addresses.into_iter().map(|address| async move { builds(&Process::connect(address, None).await?).await });
        join_all(asked).await.into_iter().for_each(|answer| self.process(answer));
        Ok(())
    }

    /// Whether an instance of a service runs.
    pub(super) fn runs(&self, service: &str) -> bool {
        let mut running = self.running.iter().map(|running| running.build.service());
        running.any(|running| running == service) && !self.outside.contains(service)
    }

    /// Whether it is not known if a service runs, or what of it.
    pub(super) fn is_unknown(&self, service: &str) -> bool {
        self.silent.contains(&None) || self.silent.contains(&Some(service.to_owned()))
    }

    /// Adds the builds of a process.
    fn process(&mut self, builds: anyhow::Result<Builds>) {
        match builds {
            Ok(builds) => builds.into_iter().for_each(|(service, answer)| self.add(&service, 1, answer)),
            Err(why) => {
                self.unknown.push(format!("{why:#}"));
                self.silent.insert(None);
            }
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
            Err(why) => {
                self.unknown.push(format!("{service}: {why:#}"));
                self.silent.insert(Some(service.to_owned()));
            }
        }
    }
}

/// The answer of an instance within the limit.
async fn within<T>(address: &Address, answer: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(LIMIT, answer).await.unwrap_or_else(|_| Err(anyhow!("{address} did not answer within {LIMIT:?}")))
}

/// The build of equal instances: that of the first one that answers.
async fn first(service: &str, instances: &[Instance]) -> anyhow::Result<Build> {
    let asked = instances.iter().filter_map(Address::of).take(EQUAL).map(|address| {
        Box::pin(async move {
            let asked = async {
                let process = Process::connect(address.clone(), Some(service)).await?;
                manifest(&process, service).await
            };
            within(&address, asked).await
        })
    });
    let asked: Vec<_> = asked.collect();
    if asked.is_empty() {
        bail!("it has no address");
    }
    Ok(select_ok(asked).await?.0)
}

/// The build of a service at a process. One of another framework has no manifest: what it serves is known by
/// reflection.
async fn manifest(process: &Process, service: &str) -> anyhow::Result<Build> {
    let Some(answer) = get(process, service).await? else {
        let (serves, contracts) = reflection::contracts(process).await?;
        if serves.iter().all(|contract| contract.split('.').next() != Some(service)) {
            bail!("{} serves nothing of it", process.address);
        }
        return Ok(Build::foreign(service, serves, &contracts)?);
    };
    if answer.manifest.is_empty() {
        bail!("{} answers without a manifest", process.address);
    }
    let build = Build::read(&answer.manifest)?;
    if build.service() != service {
        bail!("{} says that it is `{}`", process.address, shown::name(build.service()));
    }
    Ok(build)
}

/// The builds of a process: each service with its answer.
async fn builds(process: &Process) -> anyhow::Result<Builds> {
    let services = async {
        match get(process, "").await? {
            Some(answer) => Ok(answer.services),
            None => foreign_services(process).await,
        }
    };
    let services = within(&process.address, services).await;
    let services = services.with_context(|| format!("the process at {}", process.address))?;
    is_sensible(&process.address, services.len())?;
    let asked = services.into_iter().map(|service| async move {
        let answer = within(&process.address, manifest(process, &service)).await;
        (service, answer)
    });
    Ok(join_all(asked).await)
}

/// Checks how many services a process names.
fn is_sensible(address: &Address, services: usize) -> anyhow::Result<()> {
    match services {
        0 => bail!("the process at {address} names no service"),
        1..=MOST => Ok(()),
        _ => bail!("the process at {address} names {services} services, and no process has more than {MOST}"),
    }
}

/// The services of a process of another framework: the first segments of the packages that it serves.
async fn foreign_services(process: &Process) -> anyhow::Result<Vec<String>> {
    let served = reflection::served(process).await?;
    let names: BTreeSet<_> = served.iter().filter_map(|contract| contract.split('.').next()).collect();
    let own = names.into_iter().filter(|name| !["google", "grpc", "mesh"].contains(name));
    Ok(own.map(str::to_owned).collect())
}

/// The answer of a process; `None` if it does not know the call.
async fn get(process: &Process, service: &str) -> anyhow::Result<Option<GetManifestResponse>> {
    let request = GetManifestRequest { service: service.to_owned() };
    let mut client = ReleaseServiceClient::new(process.channel.clone()).max_decoding_message_size(LARGEST);
    match process.answer(client.get_manifest(request)).await? {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => bail!(shown::status(&status)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn equal_instances_are_asked_at_the_same_time() {
        credentials::read(false).unwrap();
        let (mut silent, mut instances) = (Vec::new(), Vec::new());
        for number in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let instance = json!({
                "Node": {"Node": "n", "Address": "127.0.0.1"}, "Checks": [],
                "Service": {"ID": number.to_string(), "Service": "catalog", "Address": "127.0.0.1", "Port": port},
            });
            instances.push(serde_json::from_value::<Instance>(instance).unwrap());
            silent.push(listener);
        }
        let begun = Instant::now();
        first("catalog", &instances).await.unwrap_err();
        assert!((LIMIT..2 * LIMIT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[test]
    fn process_names_some_services() {
        let named = |services| is_sensible(&"127.0.0.1:1".parse().unwrap(), services).is_ok();
        assert_eq!([0, 1, MOST, MOST + 1].map(named), [false, true, true, false]);
    }
}
