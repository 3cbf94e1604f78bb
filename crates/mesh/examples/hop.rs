//! A service for the tests of calls (tests/framework/film/calls): it forwards each call to the next hop, or answers it
//! as the last hop, in time, late or never.
//!
//! It serves the contract of the catalog, whose methods have each idempotency level: `GetTitle` has no side effects,
//! `CreateTitle` is idempotent, `DeleteTitle` must not be repeated. It calls the service `catalog`, which is the real
//! one or another hop. `HOP_DOES` sets the behaviour (`forward`; `answer`; `refuse` with UNAVAILABLE; the number
//! of a code to fail with; `flood` with an answer above the limit of a client; or `compute` without an await, then
//! answer), and `HOP_TAKES` the time that a call takes, in seconds.
//!
//! It appends a line for each begin and end of a call to the file `calls` in its folder: the time, the method, the
//! event, and the remaining budget. All times are in microseconds.

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::catalog::v1::catalog_service_server::{CatalogService, CatalogServiceServer};
use contracts::catalog::v1::*;
use mesh::context::Context;
use mesh::{Channel, Resources, Service};
use tonic::{Code, Request, Response, Status};

fn main() -> ExitCode {
    mesh::run(
        Service::new("hop", contracts::FILE_DESCRIPTOR_SET)
            .calls("catalog.v1.CatalogService", &["GetTitle", "CreateTitle", "DeleteTitle"])
            .serves(|resources| CatalogServiceServer::new(Hop::new(resources))),
    )
}

struct Hop {
    does: Does,
    takes: Duration,
    calls: Arc<File>,
    /// One client for each method, as in a service that does not share one. The channels share their state.
    get: CatalogServiceClient<Channel>,
    create: CatalogServiceClient<Channel>,
    delete: CatalogServiceClient<Channel>,
}

#[derive(PartialEq)]
enum Does {
    Forward,
    Answer,
    Fail(Code),
    Flood,
    Compute,
}

impl Hop {
    fn new(resources: &Resources) -> Self {
        let variable = |name, default: &str| std::env::var(name).unwrap_or(default.to_owned());
        let does = match &*variable("HOP_DOES", "forward") {
            "answer" => Does::Answer,
            "refuse" => Does::Fail(Code::Unavailable),
            "flood" => Does::Flood,
            "compute" => Does::Compute,
            code => code.parse().map_or(Does::Forward, |code| Does::Fail(Code::from_i32(code))),
        };
        let takes = Duration::from_secs_f64(variable("HOP_TAKES", "0").parse().expect("HOP_TAKES is in seconds"));
        let calls = File::options().create(true).append(true).open("calls").expect("a file in the current folder");
        let client = || CatalogServiceClient::new(resources.channel("catalog"));
        Self { does, takes, calls: Arc::new(calls), get: client(), create: client(), delete: client() }
    }

    #[expect(clippy::disallowed_methods, reason = "computes, as a call that keeps its worker busy")]
    /// Begins a call; `Ok` if it is to be forwarded or answered.
    async fn begin(&self, method: &'static str) -> Result<Call, Status> {
        let call = Call::begin(&self.calls, method);
        match self.does {
            Does::Compute => std::thread::sleep(self.takes),
            _ => tokio::time::sleep(self.takes).await,
        }
        if let Does::Fail(code) = self.does { Err(call.end(Status::new(code, "on purpose"))) } else { Ok(call) }
    }
}

#[tonic::async_trait]
impl CatalogService for Hop {
    async fn get_title(&self, request: Request<GetTitleRequest>) -> Result<Response<GetTitleResponse>, Status> {
        let call = self.begin("GetTitle").await?;
        call.end(match self.does {
            Does::Forward => self.get.clone().get_title(request.into_inner()).await.map_err(answered),
            _ => Ok(GetTitleResponse::default().into()),
        })
    }

    async fn create_title(
        &self,
        request: Request<CreateTitleRequest>,
    ) -> Result<Response<CreateTitleResponse>, Status> {
        let call = self.begin("CreateTitle").await?;
        call.end(match self.does {
            Does::Forward => self.create.clone().create_title(request.into_inner()).await.map_err(answered),
            Does::Flood => {
                let title = Title { name: "x".repeat(5 << 20), ..Title::default() };
                Ok(CreateTitleResponse { title: Some(title) }.into())
            }
            _ => Ok(CreateTitleResponse::default().into()),
        })
    }

    async fn delete_title(
        &self,
        request: Request<DeleteTitleRequest>,
    ) -> Result<Response<DeleteTitleResponse>, Status> {
        let call = self.begin("DeleteTitle").await?;
        call.end(match self.does {
            Does::Forward => self.delete.clone().delete_title(request.into_inner()).await.map_err(answered),
            _ => Ok(DeleteTitleResponse::default().into()),
        })
    }

    async fn batch_get_titles(
        &self,
        _: Request<BatchGetTitlesRequest>,
    ) -> Result<Response<BatchGetTitlesResponse>, Status> {
        Err(Status::unimplemented("not used by a test"))
    }

    async fn list_titles(&self, _: Request<ListTitlesRequest>) -> Result<Response<ListTitlesResponse>, Status> {
        Err(Status::unimplemented("not used by a test"))
    }

    async fn update_title(&self, _: Request<UpdateTitleRequest>) -> Result<Response<UpdateTitleResponse>, Status> {
        Err(Status::unimplemented("not used by a test"))
    }
}

/// The contract promises NOT_FOUND, which is the next hop's to find out. Any other failure becomes the hop's own.
fn answered(failed: Status) -> Status {
    if failed.code() == Code::NotFound { mesh::peer::pass_on(failed) } else { failed }
}

/// A call in progress. A drop without an end means that the caller cancelled it or its deadline passed.
struct Call {
    method: &'static str,
    calls: Arc<File>,
    ended: bool,
}

impl Call {
    fn begin(calls: &Arc<File>, method: &'static str) -> Self {
        let call = Self { method, calls: Arc::clone(calls), ended: false };
        let budget = Context::current().remaining().map_or("none".to_owned(), |left| left.as_micros().to_string());
        call.write(&format!("begun {budget}"));
        call
    }

    fn end<T>(mut self, answer: T) -> T {
        self.ended = true;
        self.write("ended -");
        answer
    }

    fn write(&self, what: &str) {
        let now = UNIX_EPOCH.elapsed().expect("it is after 1970").as_micros();
        // One write, so that the lines of concurrent calls do not mix.
        (&*self.calls).write_all(format!("{now} {} {what}\n", self.method).as_bytes()).expect("a line can be appended");
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.write("dropped -");
        }
    }
}
