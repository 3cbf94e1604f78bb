//! Retries of failed operations.

use mesh_proto::google::longrunning::DeleteOperationRequest;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::mesh::operations::v1::operation_control_service_client::OperationControlServiceClient;
use mesh_proto::mesh::operations::v1::{RetryRequest, State};
use sqlx::Row as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::fixture::{FAIL_FOR_GOOD, Fixture, SUCCEED, metadata};

async fn retry(fixture: &Fixture, name: &str, request_id: &str) -> Result<String, (Code, String)> {
    let request = RetryRequest { name: name.to_owned(), request_id: request_id.to_owned() };
    let reason = |status: Status| (status.code(), status.get_details_error_info().unwrap().reason);
    let started = OperationControlServiceClient::new(fixture.channel.clone()).retry(request).await;
    started.map(|operation| operation.into_inner().name).map_err(reason)
}

async fn inputs(fixture: &Fixture) -> i64 {
    sqlx::query("SELECT count(*) FROM operation_input").fetch_one(fixture.store.reader()).await.unwrap().get(0)
}

on_both!(retry_starts_a_failed_operation_again_with_its_input);
async fn retry_starts_a_failed_operation_again_with_its_input(fixture: Fixture) {
    let failed = fixture.wait(&fixture.start(2, FAIL_FOR_GOOD).await).await;
    let id = uuid::Uuid::new_v4().to_string();
    let again = retry(&fixture, &failed.name, &id).await.unwrap();
    assert_ne!(again, failed.name);
    assert_eq!(retry(&fixture, &failed.name, &id).await.unwrap(), again, "a repeat is harmless");
    assert_eq!(retry(&fixture, &failed.name, &id.to_uppercase()).await.unwrap(), again, "in capitals, too");

    // It runs the same steps, and fails in the same way.
    let done = fixture.wait(&again).await;
    assert_eq!(metadata(&done).state(), State::Failed);
    assert_eq!(metadata(&done).progress, metadata(&failed).progress);
    assert_eq!(fixture.get(&failed.name).await, failed, "a done operation never changes");
    let other = retry(&fixture, &again, &id).await.unwrap_err();
    assert_eq!(other, (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
}

on_both!(retry_refuses_an_operation_that_has_not_failed);
async fn retry_refuses_an_operation_that_has_not_failed(fixture: Fixture) {
    let done = fixture.wait(&fixture.start(0, SUCCEED).await).await;
    let id = uuid::Uuid::new_v4().to_string();
    let refused = retry(&fixture, &done.name, &id).await.unwrap_err();
    assert_eq!(refused, (Code::FailedPrecondition, "OPERATION_NOT_FAILED".to_owned()));
    let refused = retry(&fixture, &done.name, "1").await.unwrap_err();
    assert_eq!(refused, (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
}

on_both!(input_of_a_failed_operation_is_kept_until_its_deletion);
async fn input_of_a_failed_operation_is_kept_until_its_deletion(fixture: Fixture) {
    fixture.wait(&fixture.start(0, SUCCEED).await).await;
    assert_eq!(inputs(&fixture).await, 0);
    let failed = fixture.wait(&fixture.start(0, FAIL_FOR_GOOD).await).await;
    assert_eq!(inputs(&fixture).await, 1);
    let delete = DeleteOperationRequest { name: failed.name };
    OperationsClient::new(fixture.channel.clone()).delete_operation(delete).await.unwrap();
    // The clean-up of the operation reads the input, too, and may follow its deletion.
    fixture.until("SELECT count(*) FROM operation_input", 0).await;
}
