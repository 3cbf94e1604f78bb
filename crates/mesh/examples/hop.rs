//! A service for the tests of calls (tests/framework/film/calls): it passes on what it is asked, to the next hop, or is
//! the last one and answers, in time, late or never.
//!
//! It serves the contract of the catalog, whose calls are of every kind: `GetTitle` has no side effects, `CreateTitle`
//! is idempotent, `DeleteTitle` must not be repeated. What it calls is `catalog`, too: a real one, or another hop. The
//! environment says what it does (`HOP_DOES`: `forward`, `answer` or `refuse`, which is UNAVAILABLE) and how long it
//! takes for it (`HOP_TAKES`: seconds).
//!
//! What it sees of calls is in the file `calls` of its folder, which only grows: when they came and with how much time,
//! and when they ended or were dropped. All times are microseconds.

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
use tonic::{Request, Response, Status};

fn main() -> ExitCode {
    mesh::run(
        Service::new("hop", contracts::FILE_DESCRIPTOR_SET)
            .serves(|resources| CatalogServiceServer::new(Hop::new(resources))),
    )
}

struct Hop {
    does: Does,
    takes: Duration,
    calls: Arc<File>,
    /// One for each method, as careless services have them: they share all there is to share.
    get: CatalogServiceClient<Channel>,
    create: CatalogServiceClient<Channel>,
    delete: CatalogServiceClient<Channel>,
}

#[derive(PartialEq)]
enum Does {
    Forward,
    Answer,
    Refuse,
}

impl Hop {
    fn new(resources: &Resources) -> Self {
        let variable = |name, default: &str| std::env::var(name).unwrap_or(default.to_owned());
        let does = match &*variable("HOP_DOES", "forward") {
            "answer" => Does::Answer,
            "refuse" => Does::Refuse,
            _ => Does::Forward,
        };
        let takes = Duration::from_secs_f64(variable("HOP_TAKES", "0").parse().expect("HOP_TAKES is in seconds"));
        let calls = File::options().create(true).append(true).open("calls").expect("a file in the current folder");
        let client = || CatalogServiceClient::new(resources.channel("catalog"));
        Self { does, takes, calls: Arc::new(calls), get: client(), create: client(), delete: client() }
    }

    /// What every call comes to: `Ok` is to be passed on or answered.
    async fn begin(&self, method: &'static str) -> Result<Call, Status> {
        let call = Call::begin(&self.calls, method);
        tokio::time::sleep(self.takes).await;
        if self.does == Does::Refuse { Err(call.end(Status::unavailable("on purpose"))) } else { Ok(call) }
    }
}

#[tonic::async_trait]
impl CatalogService for Hop {
    async fn get_title(&self, request: Request<GetTitleRequest>) -> Result<Response<GetTitleResponse>, Status> {
        let call = self.begin("GetTitle").await?;
        call.end(match self.does {
            Does::Forward => self.get.clone().get_title(request.into_inner()).await,
            _ => Ok(GetTitleResponse::default().into()),
        })
    }

    async fn create_title(
        &self,
        request: Request<CreateTitleRequest>,
    ) -> Result<Response<CreateTitleResponse>, Status> {
        let call = self.begin("CreateTitle").await?;
        call.end(match self.does {
            Does::Forward => self.create.clone().create_title(request.into_inner()).await,
            _ => Ok(CreateTitleResponse::default().into()),
        })
    }

    async fn delete_title(
        &self,
        request: Request<DeleteTitleRequest>,
    ) -> Result<Response<DeleteTitleResponse>, Status> {
        let call = self.begin("DeleteTitle").await?;
        call.end(match self.does {
            Does::Forward => self.delete.clone().delete_title(request.into_inner()).await,
            _ => Ok(DeleteTitleResponse::default().into()),
        })
    }

    async fn list_titles(&self, _: Request<ListTitlesRequest>) -> Result<Response<ListTitlesResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn update_title(&self, _: Request<UpdateTitleRequest>) -> Result<Response<UpdateTitleResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }
}

/// A call that is being handled. Dropped without an end, its caller went away or its time was over.
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
        // In one piece, so that lines of calls at the same time do not mix.
        (&*self.calls)
            .write_all(format!("{now} {} {what}\n", self.method).as_bytes())
            .expect("there is room for a line");
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.write("dropped -");
        }
    }
}
