//! Whom to ask: a process that somebody names, or one that Consul finds by the name of a service.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Chain, Context as _, anyhow, bail};
use consul_api_client::health::{Instance, Query};
use consul_api_client::{Blocking, Client, Error};
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};

/// How long connecting may take, to a process or to an agent.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take. A process that is stopped accepts connections and never says a word.
const ANSWER: Duration = Duration::from_secs(10);
/// How long Consul is asked to wait for a change, and how long we wait when it does not answer.
const CHANGE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);
/// Who is asked if nobody is named: the monolith where it serves by default, or the agent of this machine.
const PROCESS: &str = "127.0.0.1:8080";
const AGENT: &str = "127.0.0.1:8500";

/// Whom to ask.
pub(crate) enum Target {
    /// One process, whatever it serves.
    Process(Process),
    /// The services that an agent knows.
    Consul(Consul),
}

/// A process that has accepted a connection.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) address: Address,
    pub(crate) channel: Channel,
}

/// An agent, with an address to call it by.
pub(crate) struct Consul {
    pub(crate) address: Address,
    pub(crate) client: Client,
}

impl Target {
    /// Whoever was named; if nobody was, whoever is there.
    pub(crate) async fn find(process: Option<Address>, consul: Option<Address>) -> anyhow::Result<Self> {
        match (process, consul) {
            (Some(address), _) => Process::connect(address).await.map(Self::Process),
            (None, Some(address)) => Consul::at(address).map(Self::Consul),
            (None, None) => Self::nearest().await,
        }
    }

    async fn nearest() -> anyhow::Result<Self> {
        if let Ok(process) = Process::connect(PROCESS.parse()?).await {
            return Ok(Self::Process(process));
        }
        let consul = Consul::at(AGENT.parse()?)?;
        if consul.client.status().leader().await.is_err() {
            bail!(
                "nobody serves at {PROCESS}, and no Consul agent answers at {AGENT}: `cargo run` or scripts/up in another terminal, \
                 or say whom to ask with --address HOST:PORT or --consul HOST:PORT"
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

    /// Waits until `service` has moved: not where `process` is any more, but somewhere else. A process that was named
    /// does not move; it may only come back.
    pub(crate) async fn moved(&self, service: &str, process: &Process) {
        match self {
            Self::Process(_) => std::future::pending().await,
            Self::Consul(consul) => consul.moved(service, &process.address).await,
        }
    }
}

impl Process {
    async fn connect(address: Address) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from(address.uri()).connect_timeout(CONNECT).tcp_nodelay(true);
        match timeout(CONNECT, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(Self { address, channel }),
            _ => bail!("nobody serves at {address}: is it running, and is that its address?"),
        }
    }

    /// Waits for an answer, but not for ever. A status that the process has sent is inside, for some are answers; one
    /// that has a cause was made here, because nothing came that could be understood.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> anyhow::Result<Result<T, Status>> {
        let address = &self.address;
        let answer = timeout(ANSWER, call).await;
        let answer = answer.map_err(|_| anyhow!("{address} has not answered within {ANSWER:?}"))?;
        if let Some(cause) = answer.as_ref().err().and_then(|status| status.source()) {
            let root = Chain::new(cause).last().unwrap_or(cause);
            bail!("no answer from {address} ({root}): does it speak gRPC, and does it still run?");
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

    /// The names of all services, without that of Consul's own servers.
    pub(crate) async fn services(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.tagged_services().await?.into_keys().collect())
    }

    /// The names of those that speak gRPC, which is what they are tagged with: a database may be registered, too.
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

    /// All instances of a service, in the order of their ids.
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
                anyhow!("no Consul agent answers at {}: is it running, and is that its address?", self.address)
            }
            Error::Permission { .. } => anyhow!("{error}: MESH__CONSUL__TOKEN has to be one that may read services"),
            // Not as a cause: it has its own causes in its text already.
            error => anyhow!("{error}"),
        }
    }

    /// Connects to one of the passing instances, whichever answers: one that has just died may be passing still.
    async fn process(&self, service: &str) -> anyhow::Result<Process> {
        let mut instances = self.found(&Query::service(service).passing()).await?;
        fastrand::shuffle(&mut instances);
        for address in instances.iter().filter_map(Address::of) {
            if let Ok(process) = Process::connect(address).await {
                return Ok(process);
            }
        }
        if !instances.is_empty() {
            bail!("no passing instance of `{service}` can be reached: `mesh services` says where they should be");
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

    /// Where an instance says it is; `None` if nobody could call it there.
    pub(crate) fn of(instance: &Instance) -> Option<Self> {
        instance.authority().parse().ok()
    }
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri = format!("http://{text}").parse::<Uri>().ok();
        let authority = uri.as_ref().and_then(|uri| uri.authority());
        // Nothing but a host and a port: no user, no path.
        let plain = authority.is_some_and(|authority| {
            !authority.host().is_empty()
                && authority.port_u16().is_some_and(|port| port > 0)
                && authority.as_str() == text
                && !text.contains('@')
        });
        uri.filter(|_| plain).map(Self).context("it must be HOST:PORT, such as 127.0.0.1:8080")
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
    fn an_address_is_a_host_and_a_port() {
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
