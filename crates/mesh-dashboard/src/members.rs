//! The processes of a mesh, and how to call them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

/// Calls one process: in memory, over a connection of the mesh, or as a client with a token. An error is a status of the
/// transport.
pub type Channel = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// The service that the hub says it is.
pub const CALLER: &str = mesh_rpc::telemetry::DASHBOARD;
/// What the hub calls itself, in the form that services of the mesh name themselves.
const AGENT: &str = concat!("grpc-rust-mesh/", env!("CARGO_PKG_VERSION"), " (", "dashboard", ")");

/// A channel of `service`, whose calls name the dashboard as their caller.
pub fn channel<S>(service: S) -> Channel
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Status, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let named = |mut request: Request<Body>| {
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        request
    };
    BoxCloneSyncService::new(service.map_request(named))
}

/// The channels that are open, by the id of a process and the service that its certificate is to name.
#[derive(Default)]
pub struct Channels(Mutex<BTreeMap<(String, String), Channel>>);

impl Channels {
    /// The channel to a process, which is opened if there is none yet.
    ///
    /// # Errors
    ///
    /// That of `open`.
    pub fn get<E>(&self, id: &str, service: &str, open: impl FnOnce() -> Result<Channel, E>) -> Result<Channel, E> {
        let (mut channels, key) = (self.lock(), (id.to_owned(), service.to_owned()));
        if let Some(channel) = channels.get(&key) {
            return Ok(channel.clone());
        }
        let channel = open()?;
        channels.insert(key, channel.clone());
        Ok(channel)
    }

    /// Closes those to other processes.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.lock().retain(|(id, _), _| is_known(id));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The largest message of a process that is read, in bytes.
pub(crate) const LARGEST: usize = 16 << 20;

/// A process.
#[derive(Clone, Debug)]
pub struct Member {
    /// What tells it from others: its address.
    pub id: String,
    /// The services that discovery knows it by. Only while it does not answer are they shown.
    pub services: Vec<String>,
    /// Why discovery does not take it for healthy; empty if it does.
    pub why: String,
    /// Calls it.
    pub channel: Channel,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Listed {
    /// The processes.
    pub members: Vec<Member>,
    /// What could not be asked, a sentence each, such as a Consul agent that does not answer.
    pub notes: Vec<String>,
}

/// Finds the processes of a mesh.
pub trait Members: Send + Sync + 'static {
    /// Lists those that are known now. [`Channels`] keeps their connections open.
    fn list(&self) -> Pin<Box<dyn Future<Output = Listed> + Send + '_>>;
}
