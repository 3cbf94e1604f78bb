//! Beginning once more what has failed.

use mesh_proto::google::longrunning::DeleteOperationRequest;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::mesh::operations::v1::operation_control_service_client::OperationControlServiceClient;
use mesh_proto::mesh::operations::v1::{RetryRequest, State};
use sqlx::Row as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::bench::{Bench, FAIL_FOR_GOOD, SUCCEED, metadata};

async fn retry(bench: &Bench, name: &str, request_id: &str) -> Result<String, (Code, String)> {
    let request = RetryRequest { name: name.to_owned(), request_id: request_id.to_owned() };
    let reason = |status: Status| (status.code(), status.get_details_error_info().unwrap().reason);
    let begun = OperationControlServiceClient::new(bench.channel.clone()).retry(request).await;
    begun.map(|operation| operation.into_inner().name).map_err(reason)
}

async fn inputs(bench: &Bench) -> i64 {
    sqlx::query("SELECT count(*) FROM operation_input").fetch_one(bench.store.reader()).await.unwrap().get(0)
}

on_both!(what_has_failed_is_begun_once_more_with_what_it_had);
async fn what_has_failed_is_begun_once_more_with_what_it_had(bench: Bench) {
    let failed = bench.wait(&bench.begin(2, FAIL_FOR_GOOD).await).await;
    let id = uuid::Uuid::new_v4().to_string();
    let again = retry(&bench, &failed.name, &id).await.unwrap();
    assert_ne!(again, failed.name);
    assert_eq!(retry(&bench, &failed.name, &id).await.unwrap(), again, "a repeat is harmless");

    // It does the same steps, and fails in the same way.
    let done = bench.wait(&again).await;
    assert_eq!(metadata(&done).state(), State::Failed);
    assert_eq!(metadata(&done).progress, metadata(&failed).progress);
    assert_eq!(bench.get(&failed.name).await, failed, "what is done never changes");
    let other = retry(&bench, &again, &id).await.unwrap_err();
    assert_eq!(other, (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
}

on_both!(what_has_not_failed_is_not_begun_again);
async fn what_has_not_failed_is_not_begun_again(bench: Bench) {
    let done = bench.wait(&bench.begin(0, SUCCEED).await).await;
    let id = uuid::Uuid::new_v4().to_string();
    let refused = retry(&bench, &done.name, &id).await.unwrap_err();
    assert_eq!(refused, (Code::FailedPrecondition, "OPERATION_NOT_FAILED".to_owned()));
    let refused = retry(&bench, &done.name, "1").await.unwrap_err();
    assert_eq!(refused, (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
}

on_both!(what_it_was_started_with_is_kept_until_it_is_deleted);
async fn what_it_was_started_with_is_kept_until_it_is_deleted(bench: Bench) {
    bench.wait(&bench.begin(0, SUCCEED).await).await;
    assert_eq!(inputs(&bench).await, 0);
    let failed = bench.wait(&bench.begin(0, FAIL_FOR_GOOD).await).await;
    assert_eq!(inputs(&bench).await, 1);
    let delete = DeleteOperationRequest { name: failed.name };
    OperationsClient::new(bench.channel.clone()).delete_operation(delete).await.unwrap();
    assert_eq!(inputs(&bench).await, 0);
}
