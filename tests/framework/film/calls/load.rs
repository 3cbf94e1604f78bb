//! A caller with a steady rate that keeps every answer.
//!
//! The rate does not depend on the answers: a caller that waits for an answer before its next call hides every pause of
//! the server. Only one load runs at a time, because two on one machine would measure each other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::catalog::v1::{CreateTitleRequest, DeleteTitleRequest, GetTitleRequest};
use harness::{eventually, uuid};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Replaces the contract's deadline of two seconds for a read, which a busy machine may exceed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The method to call.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Without side effects.
    Get,
    /// Idempotent.
    Create,
    /// Neither, so it must not be repeated.
    Delete,
    /// A delete of a title that was just created: a repeat would fail, because the title is gone.
    CreateAndDelete,
}

/// A client of one process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    catalog: CatalogServiceClient<Channel>,
    title_id: String,
}

impl Client {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
        Self { catalog: CatalogServiceClient::new(channel), title_id: uuid() }
    }

    /// Makes one call. NOT_FOUND for the title counts as an answer.
    pub(crate) async fn call(&self, kind: Kind) -> Result<(), Status> {
        match kind {
            Kind::Get => self.get().await,
            Kind::Create => self.create().await.map(drop),
            Kind::Delete => self.delete(self.title_id.clone()).await,
            Kind::CreateAndDelete => self.delete(self.create().await?).await,
        }
    }

    async fn get(&self) -> Result<(), Status> {
        let mut request = tonic::Request::new(GetTitleRequest { title_id: self.title_id.clone() });
        request.set_timeout(TIMEOUT);
        match self.catalog.clone().get_title(request).await {
            Err(status) if status.code() != Code::NotFound => Err(status),
            _ => Ok(()),
        }
    }

    async fn create(&self) -> Result<String, Status> {
        let (request_id, name) = (uuid(), "Metropolis".to_owned());
        let request = CreateTitleRequest { request_id, name, year: 1927, ..CreateTitleRequest::default() };
        let created = self.catalog.clone().create_title(request).await?.into_inner();
        Ok(created.title.map(|title| title.title_id).unwrap_or_default())
    }

    async fn delete(&self, title_id: String) -> Result<(), Status> {
        self.catalog.clone().delete_title(DeleteTitleRequest { title_id }).await.map(drop)
    }
}

/// The duration of a test in seconds: `otherwise`, or SOAK_SECONDS, which `scripts/soak` sets.
pub(crate) fn seconds(otherwise: usize) -> usize {
    std::env::var("SOAK_SECONDS").map_or(otherwise, |seconds| seconds.parse().expect("SOAK_SECONDS is a number"))
}

/// Makes one call, without a runtime.
pub(crate) fn once(address: SocketAddr, kind: Kind) -> Result<(), Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { Client::of(address).call(kind).await })
}

/// Calls that continue until [`end`](Self::end).
pub(crate) struct Load {
    runtime: Runtime,
    begun: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
    calling: JoinHandle<Vec<Call>>,
    _alone: MutexGuard<'static, ()>,
}

/// A finished call.
pub(crate) struct Call {
    pub(crate) took: Duration,
    pub(crate) answer: Result<(), Status>,
}

impl Load {
    /// Starts `rate` calls a second, of each kind in turn.
    pub(crate) fn begin(address: SocketAddr, rate: u32, kinds: &'static [Kind]) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        // A failed test may have poisoned the lock.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (begun, enough) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let client = {
            let _entered = runtime.enter();
            Client::of(address)
        };
        let calling = runtime.spawn(calls(client, rate, kinds, Arc::clone(&begun), Arc::clone(&enough)));
        Self { runtime, begun, enough, calling, _alone: alone }
    }

    /// Waits until this many more calls have started.
    pub(crate) fn wait_for_calls(&self, calls: usize) {
        let goal = self.begun.load(Ordering::Relaxed) + calls;
        // The total has no limit, because it takes as long as the rate demands; each call has one.
        while self.begun.load(Ordering::Relaxed) < goal {
            let before = self.begun.load(Ordering::Relaxed);
            eventually("another call starts", || (self.begun.load(Ordering::Relaxed) > before).then_some(()));
        }
    }

    /// Stops, and returns all calls.
    pub(crate) fn end(self) -> Vec<Call> {
        self.enough.store(true, Ordering::Relaxed);
        let calls = self.runtime.block_on(self.calling).expect("no call panics");
        let failed = calls.iter().filter(|call| call.answer.is_err()).count();
        let slowest = calls.iter().map(|call| call.took).max().unwrap_or_default();
        println!("{} calls, {failed} failed, the slowest took {slowest:?}", calls.len());
        calls
    }

    /// Stops, and asserts that no call failed.
    pub(crate) fn end_without_failures(self) {
        let calls = self.end();
        let failures: Vec<_> = calls.iter().filter_map(|call| call.answer.as_ref().err()).collect();
        assert!(failures.is_empty(), "{} of {} failed, such as {:?}", failures.len(), calls.len(), failures[0]);
    }
}

async fn calls(
    client: Client,
    rate: u32,
    kinds: &'static [Kind],
    begun: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
) -> Vec<Call> {
    let (mut ticks, mut calls) = (tokio::time::interval(Duration::from_secs(1) / rate), JoinSet::new());
    for kind in kinds.iter().cycle() {
        ticks.tick().await;
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let client = client.clone();
        calls.spawn(async move {
            let start = Instant::now();
            let answer = client.call(*kind).await;
            Call { took: start.elapsed(), answer }
        });
        begun.fetch_add(1, Ordering::Relaxed);
    }
    calls.join_all().await
}
