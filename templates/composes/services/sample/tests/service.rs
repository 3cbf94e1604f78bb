//! Calls `sample` with its typed client, beside a fake of `alpha` or without any peer.

use std::convert::Infallible;
use std::future::{Ready, ready};

use contracts::alpha::v1 as alpha;
use contracts::sample::v1::GetOverviewRequest;
use contracts::sample::v1::sample_service_client::SampleServiceClient;
use mesh::Service;
use mesh::testing::{Mesh, bounds};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Context, Poll, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

/// In the place of `alpha`: it answers each call with the same part, or with a status.
#[derive(Clone)]
struct Fake(Result<alpha::GetAlphaResponse, Code>);

impl NamedService for Fake {
    const NAME: &'static str = "alpha.v1.AlphaService";
}

impl UnaryService<alpha::GetAlphaRequest> for Fake {
    type Response = alpha::GetAlphaResponse;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, _: Request<alpha::GetAlphaRequest>) -> Self::Future {
        ready(self.0.clone().map(Response::new).map_err(|code| Status::new(code, "")))
    }
}

impl tonic::codegen::Service<http::Request<Body>> for Fake {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async { Ok(Grpc::new(ProstCodec::default()).unary(fake, request).await) })
    }
}

async fn beside(fake: Fake) -> Mesh {
    let alpha = Service::new("alpha", contracts::FILE_DESCRIPTOR_SET).serves(|_| fake);
    Mesh::start([sample::service(), alpha]).await
}

fn request() -> GetOverviewRequest {
    GetOverviewRequest { alpha_id: uuid::Uuid::new_v4().to_string() }
}

#[tokio::test]
async fn overview_names_the_services_that_it_lacks() {
    let part = alpha::AlphaPart::default();
    let mesh = beside(Fake(Ok(alpha::GetAlphaResponse { alpha_part: Some(part.clone()) }))).await;
    let mut client = SampleServiceClient::new(mesh.channel("sample"));
    let overview = client.get_overview(request()).await.unwrap().into_inner();
    assert_eq!(overview.alpha, Some(part));
    let lacking: &[&str] = &[
        "services/beta",
    ];
    assert_eq!(overview.unreachable, lacking);
}

#[tokio::test]
async fn overview_of_an_unknown_id_is_not_found() {
    let mesh = beside(Fake(Err(Code::NotFound))).await;
    let mut client = SampleServiceClient::new(mesh.channel("sample"));
    assert_eq!(client.get_overview(request()).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn overview_without_alpha_is_unavailable() {
    let mesh = Mesh::start(sample::service()).await;
    let mut client = SampleServiceClient::new(mesh.channel("sample"));
    let failed = client.get_overview(request()).await.unwrap_err();
    let reason = failed.get_error_details().error_info().unwrap().reason.clone();
    assert_eq!((failed.code(), reason.as_str()), (Code::Unavailable, "NO_ENDPOINTS"));
}

#[tokio::test]
async fn bounds_of_the_contract_are_those_of_the_service() {
    let mesh = beside(Fake(Ok(alpha::GetAlphaResponse::default()))).await;
    let client = SampleServiceClient::new(mesh.channel("sample"));
    let overview = request();
    bounds(contracts::FILE_DESCRIPTOR_SET, &overview, &[], async |request| client.clone().get_overview(request).await)
        .await;
}
