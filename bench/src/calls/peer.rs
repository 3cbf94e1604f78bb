//! The service under test: one of mesh's own, with a short request and answer, and a handler that only answers.

use std::io::Write as _;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mesh::Service;
use mesh::testing::Mesh;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::operations_server::{Operations, OperationsServer};
use mesh_proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse,
    Operation, WaitOperationRequest,
};
use mesh_proto::mesh::operations::v1::{OperationMetadata, State};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::StdError;
use tonic::{Request, Response, Status, async_trait};
use tower::ServiceExt as _;

use crate::server::{Server, until_its_input_ends};

/// The two sides of the comparison, each with a client and a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    Mesh,
    Tonic,
}

impl Side {
    /// Starts the server of this side in another process, which runs this program.
    pub(crate) fn server(self) -> anyhow::Result<Server> {
        Server::run(["serve-calls", if self == Self::Mesh { "mesh" } else { "tonic" }])
    }

    /// Serves in that other process.
    pub(crate) async fn serve(self) -> anyhow::Result<()> {
        match self {
            Self::Mesh => {
                mesh::testing::log();
                let mesh = Mesh::start(service()).await;
                writeln!(std::io::stdout(), "{}", mesh.url())?;
                until_its_input_ends().await
            }
            Self::Tonic => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
                tokio::select! {
                    ended = tonic(listener) => ended,
                    ended = until_its_input_ends() => ended,
                }
            }
        }
    }
}

/// The service on mesh.
pub(crate) fn service() -> Service {
    Service::new("bench", &[]).serves(|_| OperationsServer::new(Answering::default()))
}

/// The limit of concurrent calls on a connection, the same as mesh's.
const STREAMS: u32 = 1000;

/// Does with a connection what tonic's own server does, without its layers. tonic's server would have to be compiled
/// for this alone, and with it all crates that depend on tonic a second time.
async fn tonic(listener: TcpListener) -> anyhow::Result<()> {
    let service = OperationsServer::new(Answering::default());
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone().map_request(|request: http::Request<Incoming>| request.map(Body::new));
        let (http2, service) = (http2.clone(), TowerToHyperService::new(service));
        tokio::spawn(async move { http2.serve_connection(TokioIo::new(stream), service).await });
    }
}

/// Makes one call.
pub(crate) async fn call<T>(client: &mut OperationsClient<T>) -> anyhow::Result<()>
where
    T: GrpcService<Body, Error: Into<StdError>, ResponseBody: Send + 'static>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes, Error: Into<StdError> + Send>,
{
    client.get_operation(request()).await?;
    Ok(())
}

pub(crate) fn request() -> GetOperationRequest {
    GetOperationRequest { name: NAME.to_owned() }
}

const NAME: &str = "services/bench/operations/0193a0c1-8f3e-7c55-9d5e-2b0c4d1f6a7b";

/// The operation that every request gets.
pub(crate) fn operation() -> Operation {
    let time = Some(mesh::store::timestamp(mesh::store::now()));
    let metadata = OperationMetadata {
        state: State::Running.into(),
        revision: 2,
        attempt: 1,
        create_time: time,
        update_time: time,
        ..OperationMetadata::default()
    };
    let metadata = prost_types::Any::from_msg(&metadata).ok();
    Operation { name: NAME.to_owned(), metadata, ..Operation::default() }
}

/// The operations of a list.
pub(crate) const LISTED: usize = 50;

/// Returns the same operation for every request, or the same list.
#[derive(Clone)]
pub(crate) struct Answering(Operation, ListOperationsResponse);

impl Default for Answering {
    fn default() -> Self {
        let operations = vec![operation(); LISTED];
        Self(operation(), ListOperationsResponse { operations, ..ListOperationsResponse::default() })
    }
}

#[async_trait]
impl Operations for Answering {
    async fn get_operation(&self, _: Request<GetOperationRequest>) -> Result<Response<Operation>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn wait_operation(&self, _: Request<WaitOperationRequest>) -> Result<Response<Operation>, Status> {
        Err(not_measured())
    }

    async fn list_operations(
        &self,
        _: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        Ok(Response::new(self.1.clone()))
    }

    async fn delete_operation(&self, _: Request<DeleteOperationRequest>) -> Result<Response<()>, Status> {
        Err(not_measured())
    }

    async fn cancel_operation(&self, _: Request<CancelOperationRequest>) -> Result<Response<()>, Status> {
        Err(not_measured())
    }
}

fn not_measured() -> Status {
    Status::unimplemented("the benchmark only reads operations")
}
