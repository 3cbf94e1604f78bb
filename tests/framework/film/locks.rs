//! Somebody else holds a lock in the database of the catalog: calls that need it end with their deadline, on the server
//! as well, and nothing else suffers.

use std::time::{Duration, Instant};

use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::catalog::v1::{CreateTitleRequest, GetTitleRequest};
use harness::{Grpcurl, Postgres, Process, RawCall, Session, eventually, uuid};
use prost::Message as _;
use serde_json::json;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// The connections of the catalog, and as many callers.
const CONNECTIONS: usize = 10;
/// In the words of gRPC.
const DEADLINE: &str = "700m";

/// A monolith whose catalog is on Postgres, one title in it, and a session that holds locks.
struct Fixture {
    process: Process,
    runtime: Runtime,
    catalog: CatalogServiceClient<Channel>,
    title_id: String,
    holder: Session,
    onlooker: Session,
}

impl Fixture {
    fn new(settings: &[(&str, &str)]) -> Option<Self> {
        let url = Postgres::shared()?.database(&format!("catalog_{}", uuid().replace('-', "")));
        let mut environment = vec![("MESH__SERVICES__CATALOG__DATABASE_URL", &*url)];
        environment.extend(settings);
        let process = Process::start("monolith", &environment);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let address = format!("http://{}", process.address);
        let channel = runtime.block_on(async { Endpoint::from_shared(address).expect("an address").connect_lazy() });
        let (holder, onlooker) = (Session::open(&url), Session::open(&url));
        let catalog = CatalogServiceClient::new(channel);
        let mut fixture = Self { process, runtime, catalog, title_id: String::new(), holder, onlooker };
        fixture.title_id = fixture.write(Duration::from_secs(20)).expect("a title");
        Some(fixture)
    }

    fn write(&self, deadline: Duration) -> Result<String, Status> {
        self.runtime.block_on(write(self.catalog.clone(), deadline))
    }

    fn read(&self, deadline: Duration) -> Result<(), Status> {
        self.runtime.block_on(read(self.catalog.clone(), self.title_id.clone(), deadline))
    }

    /// Calls a method once for each connection, with [`DEADLINE`] for the server; each call must end by it.
    fn exceed_deadlines(&self, method: &str, request: impl Fn() -> Vec<u8>) {
        let started = Instant::now();
        let calls = (0..CONNECTIONS).map(|_| {
            let path = format!("/catalog.v1.CatalogService/{method}");
            let mut call = RawCall::begin(self.process.address, &path, &[("grpc-timeout", DEADLINE)]);
            call.send(&request());
            call
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.ended().code, (Code::DeadlineExceeded as i32).to_string(), "{method}");
        }
        assert!(started.elapsed() < Duration::from_secs(10), "after {:?}", started.elapsed());
    }

    /// Liveness, readiness and health, as those who ask see them.
    fn is_ready(&self) {
        let ready = self.process.http("/readyz");
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
        for service in ["", "catalog.v1.CatalogService"] {
            let check = self.process.grpcurl().call("grpc.health.v1.Health/Check", &json!({"service": service}));
            assert_eq!(check.json()["status"], "SERVING", "{service}");
        }
    }

    /// The server executes no statement any more that waits for the lock.
    fn waits_no_more(&mut self) {
        let onlooker = &mut self.onlooker;
        eventually("the statements end", || (!onlooker.waits_for_a_lock()).then_some(()));
    }
}

fn assert_unavailable(failed: &Status, condition: &str) {
    assert_eq!(failed.code(), Code::Unavailable, "{failed:?}");
    let details = failed.get_error_details();
    let info = details.error_info().expect("a reason");
    assert_eq!(info.reason, "DATABASE_UNAVAILABLE");
    assert_eq!(info.metadata.get("condition").map(|found| &**found), Some(condition), "{failed:?}");
}

fn new_title() -> CreateTitleRequest {
    let (request_id, name) = (uuid(), "Metropolis".to_owned());
    CreateTitleRequest { request_id, name, year: 1927, ..CreateTitleRequest::default() }
}

async fn write(mut catalog: CatalogServiceClient<Channel>, deadline: Duration) -> Result<String, Status> {
    let mut request = Request::new(new_title());
    request.set_timeout(deadline);
    Ok(catalog.create_title(request).await?.into_inner().title.expect("a title").title_id)
}

async fn read(mut catalog: CatalogServiceClient<Channel>, title_id: String, deadline: Duration) -> Result<(), Status> {
    let mut request = Request::new(GetTitleRequest { title_id });
    request.set_timeout(deadline);
    catalog.get_title(request).await.map(drop)
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn lock_of_somebody_else_ends_with_the_deadline_of_the_call() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(mut fixture) = Fixture::new(&[("MESH__DATABASE__LOCK_TIMEOUT", "2s")]) else { return };
    fixture.holder.execute("BEGIN; LOCK TABLE titles IN EXCLUSIVE MODE");
    fixture.exceed_deadlines("CreateTitle", || new_title().encode_to_vec());
    // All connections were in use, and are free again while the lock is still held.
    fixture.is_ready();
    fixture.waits_no_more();
    fixture.read(Duration::from_secs(20)).expect("a read needs no lock");
    let other = fixture.process.grpcurl();
    let other = other.call("artwork.v1.ArtworkService/GetArtwork", &json!({"title_id": fixture.title_id}));
    assert_eq!(other.failure().0, "NotFound", "another service");

    // A caller with time gets an answer that it may retry.
    let started = Instant::now();
    let failed = fixture.write(Duration::from_secs(20)).expect_err("the lock is held");
    assert_unavailable(&failed, "busy");
    assert!(started.elapsed() < Duration::from_secs(10), "after {:?}", started.elapsed());
    fixture.is_ready();

    // Nobody can read either.
    fixture.holder.execute("ROLLBACK; BEGIN; LOCK TABLE titles IN ACCESS EXCLUSIVE MODE");
    let get = GetTitleRequest { title_id: fixture.title_id.clone() };
    fixture.exceed_deadlines("GetTitle", || get.encode_to_vec());
    fixture.is_ready();
    fixture.waits_no_more();

    fixture.holder.execute("ROLLBACK");
    fixture.write(Duration::from_secs(20)).expect("the lock is free");
    fixture.read(Duration::from_secs(20)).expect("the lock is free");
    fixture.is_ready();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn connections_in_use_are_told_apart_from_a_database_that_is_away() {
    if !Grpcurl::installed() {
        return;
    }
    let settings = [("MESH__SERVICES__CATALOG__DATABASE__CONNECTIONS", "1"), ("MESH__DATABASE__WAIT", "200ms")];
    let Some(mut fixture) = Fixture::new(&settings) else { return };
    fixture.holder.execute("BEGIN; LOCK TABLE titles IN EXCLUSIVE MODE");
    let waiting = fixture.runtime.spawn(write(fixture.catalog.clone(), Duration::from_secs(20)));
    let onlooker = &mut fixture.onlooker;
    eventually("a statement waits", || onlooker.waits_for_a_lock().then_some(()));

    let failed = fixture.read(Duration::from_secs(20)).expect_err("no connection is free");
    assert_unavailable(&failed, "no-free-connection");
    fixture.is_ready();

    fixture.holder.execute("ROLLBACK");
    fixture.runtime.block_on(waiting).expect("no panic").expect("the lock is free");
    fixture.read(Duration::from_secs(20)).expect("a connection is free");
}
