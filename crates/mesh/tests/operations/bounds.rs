//! The bounds in the contracts of operations.

use futures_util::StreamExt as _;
use mesh::testing::bounds;
use mesh_proto::FILE_DESCRIPTOR_SET;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest, WaitOperationRequest,
};
use mesh_proto::mesh::operations::v1::operation_control_service_client::OperationControlServiceClient;
use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{RetryRequest, SubscribeRequest, WatchRequest};

use crate::fixture::{FAIL_FOR_GOOD, Fixture};

on_both!(bounds_of_operations_are_those_of_the_service);
async fn bounds_of_operations_are_those_of_the_service(fixture: Fixture) {
    let client = OperationsClient::new(fixture.channel.clone());
    let name = fixture.wait(&fixture.start(0, FAIL_FOR_GOOD).await).await.name;
    let set = FILE_DESCRIPTOR_SET;

    let get = GetOperationRequest { name: name.clone() };
    bounds(set, &get, &[], async |request| client.clone().get_operation(request).await).await;
    let parent = "services/work".to_owned();
    let list = ListOperationsRequest { name: parent, ..ListOperationsRequest::default() };
    let opaque = ["filter", "page_token"];
    bounds(set, &list, &opaque, async |request| client.clone().list_operations(request).await).await;
    let cancel = CancelOperationRequest { name: name.clone() };
    bounds(set, &cancel, &[], async |request| client.clone().cancel_operation(request).await).await;
    let wait = WaitOperationRequest { name: name.clone(), timeout: None };
    bounds(set, &wait, &[], async |request| client.clone().wait_operation(request).await).await;
    let retry = RetryRequest { name: name.clone(), request_id: uuid::Uuid::new_v4().to_string() };
    let control = OperationControlServiceClient::new(fixture.channel.clone());
    bounds(set, &retry, &[], async |request| control.clone().retry(request).await).await;
    let delete = DeleteOperationRequest { name };
    bounds(set, &delete, &[], async |request| client.clone().delete_operation(request).await).await;
}

on_both!(bounds_of_streams_of_operations_are_those_of_the_service);
async fn bounds_of_streams_of_operations_are_those_of_the_service(fixture: Fixture) {
    let client = OperationEventsServiceClient::new(fixture.channel.clone());
    let name = fixture.wait(&fixture.start(0, FAIL_FOR_GOOD).await).await.name;

    let watch = WatchRequest { name, ..WatchRequest::default() };
    let call = async |request| {
        let mut frames = client.clone().watch(request).await?.into_inner();
        frames.next().await.transpose()
    };
    bounds(FILE_DESCRIPTOR_SET, &watch, &["cursor"], call).await;
    let parent = "services/work".to_owned();
    let subscribe = SubscribeRequest { parent, kinds: vec!["Steps".to_owned()], ..SubscribeRequest::default() };
    let call = async |request| {
        let mut frames = client.clone().subscribe(request).await?.into_inner();
        frames.next().await.transpose()
    };
    bounds(FILE_DESCRIPTOR_SET, &subscribe, &["cursor"], call).await;
}
