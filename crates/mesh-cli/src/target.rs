//! Finds the process that answers: at a given address, or through Consul by the name of a service.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Chain, Context as _, anyhow, bail};
use consul_api_client::health::{Instance, Query};
use consul_api_client::{Blocking, Client, Error};
use tokio::time::{sleep, timeout};
use tonic::transport::{Endpoint, Uri};
use tonic::{Response, Status};

use crate::credentials::{self, Channel};

/// The limit for connecting to a process or to an agent.
const CONNECT: Duration = Duration::from_secs(2);
/// The limit for an answer. The kernel accepts connections for a stopped process, which never answers.
const ANSWER: Duration = Duration::from_secs(10);
/// How long Consul holds a query until a service changes.
const CHANGE: Duration = Duration::from_secs(60);
/// The pause between two such queries.
const PAUSE: Duration = Duration::from_secs(1);
/// The default address of the monolith.
const PROCESS: &str = "127.0.0.1:8080";
/// The default address of a Consul agent.
pub(crate) const AGENT: &str = "127.0.0.1:8500";

/// The source of answers.
pub(crate) enum Target {
    /// One process, for every service.
    Process(Process),
    /// The services in the catalog of a Consul agent.
    Consul(Consul),
}

/// A process that accepted a connection.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) address: Address,
    pub(crate) channel: Channel,
}

/// A Consul agent. The address is for messages.
pub(crate) struct Consul {
    pub(crate) address: Address,
    pub(crate) client: Client,
}

impl Target {
    /// The given process or agent; without either, the default process, or else the default agent.
    pub(crate) async fn find(process: Option<Address>, consul: Option<Address>) -> anyhow::Result<Self> {
        match (process, consul) {
            (Some(address), _) => Process::connect(address, None).await.map(Self::Process),
            (None, Some(address)) => Consul::at(address).map(Self::Consul),
            (None, None) => Self::nearest().await,
        }
    }

    async fn nearest() -> anyhow::Result<Self> {
        if let Ok(process) = Process::connect(PROCESS.parse()?, None).await {
            return Ok(Self::Process(process));
        }
        let consul = Consul::at(AGENT.parse()?)?;
        if consul.client.status().leader().await.is_err() {
            bail!(
                "no process answers at {PROCESS} and no Consul agent at {AGENT}: start `cargo run` or scripts/up, or \
                 give --consul HOST:PORT, or --address HOST:PORT of one process; mesh reads no registry `static` or `dns`"
            );
        }
        Ok(Self::Consul(consul))
    }

    /// A process that serves `service`.
    pub(crate) async fn process(&self, service: &str) -> anyhow::Result<Process> {
        match self {
            Self::Process(process) => Ok(process.clone()),
            Self::Consul(consul) => consul.process(service).await,
        }
    }

    /// What `ask` finds in the processes of all services, each with its process, and an error for each service that
    /// does not answer. `service` is the one to which something found belongs: a process may have further services.
    pub(crate) async fn of_each_service<T>(
        &self,
        ask: impl AsyncFn(&Process) -> anyhow::Result<Vec<T>>,
        service: impl Fn(&T) -> &str,
    ) -> anyhow::Result<(Vec<(Process, T)>, Vec<String>)> {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        let with = |process: Process| move |one| (process.clone(), one);
        match self {
            Self::Process(process) => found.extend(ask(process).await?.into_iter().map(with(process.clone()))),
            Self::Consul(consul) => {
                for name in consul.grpc_services().await? {
                    let asked = async {
                        let process = consul.process(&name).await?;
                        let all = ask(&process).await?;
                        anyhow::Ok(all.into_iter().filter(|one| service(one) == name).map(with(process)))
                    };
                    match asked.await {
                        Ok(own) => found.extend(own),
                        Err(error) => errors.push(format!("{name}: {error:#}")),
                    }
                }
            }
        }
        Ok((found, errors))
    }

    /// Waits until `service` has moved: Consul has passing instances, none of them at the address of `process`. Waits
    /// forever for a process that was given by address.
    pub(crate) async fn moved(&self, service: &str, process: &Process) {
        match self {
            Self::Process(_) => std::future::pending().await,
            Self::Consul(consul) => consul.moved(service, &process.address).await,
        }
    }
}

impl Process {
    /// Connects to a process. `service` is the one that is looked for there, if it is known.
    pub(crate) async fn connect(address: Address, service: Option<&str>) -> anyhow::Result<Self> {
        match timeout(CONNECT, credentials::connect(address.endpoint(), service)).await {
            Ok(Ok(channel)) => Ok(Self { address, channel }),
            Ok(Err(error)) if credentials::are_shown() => {
                let root = error.root_cause();
                bail!(
                    "no connection by TLS to {address} ({root}): check the address, that the process runs, and its certificate"
                )
            }
            _ => bail!("no process answers at {address}: check the address, and that the process runs"),
        }
    }

    /// Waits up to 10 s for an answer. A status from the process is an inner error, because some statuses are answers.
    /// A status with a cause comes from the transport and is an outer error.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> anyhow::Result<Result<T, Status>> {
        let address = &self.address;
        let answer = timeout(ANSWER, call).await;
        let answer = answer.map_err(|_| {
            anyhow!("{address} did not answer within {ANSWER:?}: check that the process is not stopped or overloaded")
        })?;
        if let Some(cause) = answer.as_ref().err().and_then(|status| status.source()) {
            let root = Chain::new(cause).last().unwrap_or(cause);
            bail!(
                "no answer from {address} ({root}): check that the process runs and speaks gRPC{}",
                credentials::hint()
            );
        }
        Ok(answer.map(Response::into_inner))
    }
}

impl Consul {
    fn at(address: Address) -> anyhow::Result<Self> {
        let mut builder = Client::builder(address.uri().to_string()).timeout(CONNECT);
        if let Ok(token) = std::env::var("MESH__CONSUL__TOKEN") {
            builder = builder.token(token);
        }
        Ok(Self { client: builder.build()?, address })
    }

    /// The names of all services, without Consul itself.
    pub(crate) async fn services(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.tagged_services().await?.into_keys().collect())
    }

    /// The names of the services with the tag `grpc`; others, such as a database, may be registered too.
    pub(crate) async fn grpc_services(&self) -> anyhow::Result<Vec<String>> {
        let services = self.tagged_services().await?.into_iter();
        Ok(services.filter(|(_, tags)| tags.iter().any(|tag| tag == "grpc")).map(|(name, _)| name).collect())
    }

    async fn tagged_services(&self) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        let services = self.client.catalog().services(None).await.map_err(|error| self.refused(error))?;
        let mut services = services.value;
        services.remove("consul");
        Ok(services)
    }

    /// All instances of a service, ordered by id.
    pub(crate) async fn instances(&self, service: &str) -> anyhow::Result<Vec<Instance>> {
        let mut instances = self.found(&Query::service(service)).await?;
        instances.sort_by(|a, b| a.service.id.cmp(&b.service.id));
        Ok(instances)
    }

    async fn found(&self, query: &Query) -> anyhow::Result<Vec<Instance>> {
        let found = self.client.health().instances(query, None).await;
        found.map(|found| found.value).map_err(|error| self.refused(error))
    }

    fn refused(&self, error: Error) -> anyhow::Error {
        match error {
            Error::Unreachable { .. } | Error::Timeout { .. } => {
                anyhow!("no Consul agent answers at {}: check the address, and that the agent runs", self.address)
            }
            Error::Permission { .. } => anyhow!("{error}: set MESH__CONSUL__TOKEN to a token that may read services"),
            // As text, not as a cause: the text includes the causes.
            error => anyhow!("{error}"),
        }
    }

    /// Connects to a passing instance. Tries all of them: an instance that just ended is still passing for a while.
    async fn process(&self, service: &str) -> anyhow::Result<Process> {
        let mut instances = self.found(&Query::service(service).passing()).await?;
        fastrand::shuffle(&mut instances);
        for address in instances.iter().filter_map(Address::of) {
            if let Ok(process) = Process::connect(address, Some(service)).await {
                return Ok(process);
            }
        }
        if !instances.is_empty() {
            bail!("no passing instance of `{service}` can be reached: `mesh services` lists their addresses");
        }
        if self.instances(service).await?.is_empty() {
            bail!("Consul at {} knows no service `{service}`: `mesh services` lists those it knows", self.address);
        }
        bail!("no instance of `{service}` is passing: `mesh services` says why");
    }

    async fn moved(&self, service: &str, from: &Address) {
        let passing = Query::service(service).passing();
        let mut index = 0;
        loop {
            match self.client.health().instances(&passing, Blocking { index, wait: CHANGE }).await {
                Ok(answer) => {
                    index = answer.next(index);
                    let mut addresses = answer.value.iter().filter_map(Address::of);
                    if !answer.value.is_empty() && addresses.all(|address| address != *from) {
                        return;
                    }
                }
                Err(_) => index = 0,
            }
            sleep(PAUSE).await;
        }
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(Uri);

impl Address {
    fn uri(&self) -> Uri {
        self.0.clone()
    }

    /// How a process at this address is connected to.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from(self.uri()).connect_timeout(CONNECT).tcp_nodelay(true)
    }

    /// The address of an instance; `None` if Consul has no usable host and port.
    pub(crate) fn of(instance: &Instance) -> Option<Self> {
        instance.authority().parse().ok()
    }
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri = format!("http://{text}").parse::<Uri>().ok();
        let authority = uri.as_ref().and_then(|uri| uri.authority());
        // No user, no path.
        let plain = authority.is_some_and(|authority| {
            !authority.host().is_empty()
                && authority.port_u16().is_some_and(|port| port > 0)
                && authority.as_str() == text
                && !text.contains('@')
        });
        uri.filter(|_| plain).map(Self).context("must be HOST:PORT, such as 127.0.0.1:8080")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.authority().map(|authority| authority.as_str()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn address_is_a_host_and_a_port() {
        for text in ["127.0.0.1:8080", "localhost:1", "[::1]:8080", "artwork.service.consul:50052"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in
            ["", "8080", ":8080", "localhost", "localhost:", "localhost:0", "http://a:1", "a:1/b", "u@a:1", "a:x"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
