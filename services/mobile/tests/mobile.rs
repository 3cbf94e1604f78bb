//! Calls mobile with its typed client, without its peers.

use contracts::mobile::v1::mobile_service_client::MobileServiceClient;
use contracts::mobile::v1::{AwaitOperationRequest, GetHomeRequest};
use mesh::testing::{Mesh, bounds};
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test]
async fn home_without_the_catalog_is_unavailable() {
    let mesh = Mesh::start(mobile::service()).await;
    let mut client = MobileServiceClient::new(mesh.channel("mobile"));
    let failed = client.get_home(GetHomeRequest::default()).await.unwrap_err();
    let reason = failed.get_error_details().error_info().unwrap().reason.clone();
    assert_eq!((failed.code(), reason.as_str()), (Code::Unavailable, "NO_ENDPOINTS"));
}

#[tokio::test]
async fn bounds_of_the_contract_are_those_of_the_service() {
    let mesh = Mesh::start(mobile::service()).await;
    let (set, client) = (contracts::FILE_DESCRIPTOR_SET, MobileServiceClient::new(mesh.channel("mobile")));
    // A request that is not refused gets to the catalog, which is not there.
    let home = async |request| match client.clone().get_home(request).await {
        Err(status) if status.code() != Code::Unavailable => Err(status),
        _ => Ok(()),
    };
    bounds(set, &GetHomeRequest::default(), &[], home).await;
    let name = format!("services/library/operations/{}", uuid::Uuid::new_v4());
    let operation = AwaitOperationRequest { name, cursor: Vec::new() };
    bounds(set, &operation, &["cursor"], async |request| client.clone().await_operation(request).await).await;
}
