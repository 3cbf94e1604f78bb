//! The life of an operation: start, attempts, progress, cancellation, end, deletion.

use mesh::operations::Start;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{ListOperationsRequest, WaitOperationRequest, operation};
use mesh_proto::mesh::operations::v1::State;
use tonic::Code;

use crate::fixture::{
    FAIL_FOR_GOOD, FAIL_ONCE, Fixture, HANG, KEY, PANIC, REPORT, REPORT_AND_HANG, SUCCEED, Steps, assert_whole,
    failure, metadata, refused, states,
};

on_both!(operation_history_runs_from_start_to_one_end);
async fn operation_history_runs_from_start_to_one_end(fixture: Fixture) {
    let name = fixture.start(3, SUCCEED).await;
    let done = fixture.wait(&name).await;
    let Some(operation::Result::Response(response)) = &done.result else { panic!("{done:?}") };
    assert_eq!(response.to_msg::<prost_types::Duration>().unwrap().seconds, 3);
    assert_eq!(response.type_url, "type.googleapis.com/google.protobuf.Duration");

    let history = fixture.history(&name).await;
    assert_whole(&history);
    assert_eq!(states(&history), [State::Running, State::Running, State::Running, State::Running, State::Succeeded]);
}

on_both!(start_repeats_for_the_same_request_and_refuses_another_under_its_id);
async fn start_repeats_for_the_same_request_and_refuses_another_under_its_id(fixture: Fixture) {
    let (id, request) = (uuid::Uuid::new_v4(), prost_types::Duration { seconds: 1, nanos: 0 });
    let start = Start::<Steps>::new(id, &request);
    assert!(fixture.operations.started(&start).await.unwrap().is_none());
    let mut names = Vec::new();
    for _ in 0..3 {
        let mut tx = fixture.store.begin().await.unwrap();
        names.push(fixture.operations.start_in(&mut tx, &start).await.unwrap().name);
        tx.commit().await.unwrap();
    }
    assert!(names.iter().all(|name| name == &names[0]), "{names:?}");
    assert_eq!(fixture.operations.started(&start).await.unwrap().unwrap().name, names[0]);

    let other = prost_types::Duration { seconds: 2, nanos: 0 };
    let mut tx = fixture.store.begin().await.unwrap();
    let refused = fixture.operations.start_in(&mut tx, &Start::<Steps>::new(id, &other)).await.unwrap_err();
    assert!(matches!(refused, mesh::store::Error::RequestIdReused));
}

on_both!(start_in_a_dropped_transaction_leaves_nothing);
async fn start_in_a_dropped_transaction_leaves_nothing(fixture: Fixture) {
    let (id, request) = (uuid::Uuid::new_v4(), prost_types::Duration::default());
    let mut tx = fixture.store.begin().await.unwrap();
    fixture.operations.start_in(&mut tx, &Start::<Steps>::new(id, &request)).await.unwrap();
    drop(tx);
    let request = ListOperationsRequest { name: "services/work".to_owned(), ..Default::default() };
    let listed = OperationsClient::new(fixture.channel.clone()).list_operations(request).await.unwrap().into_inner();
    assert!(listed.operations.is_empty());
}

on_both!(attempt_after_a_transient_failure_skips_finished_steps);
async fn attempt_after_a_transient_failure_skips_finished_steps(fixture: Fixture) {
    let name = fixture.start(2, FAIL_ONCE).await;
    let done = fixture.wait(&name).await;
    assert_eq!((metadata(&done).state(), metadata(&done).attempt), (State::Succeeded, 2));
    let history = fixture.history(&name).await;
    assert_whole(&history);
    let running = State::Running;
    assert_eq!(states(&history), [running, running, running, State::Pending, running, State::Succeeded]);
}

on_both!(final_failure_is_not_retried);
async fn final_failure_is_not_retried(fixture: Fixture) {
    let done = fixture.wait(&fixture.start(0, FAIL_FOR_GOOD).await).await;
    assert_eq!((metadata(&done).state(), metadata(&done).attempt), (State::Failed, 1));
    assert_eq!(failure(done), (Code::FailedPrecondition, "NEVER".to_owned()));
}

on_both!(panic_fails_its_operation_after_all_attempts_and_no_other);
async fn panic_fails_its_operation_after_all_attempts_and_no_other(fixture: Fixture) {
    let name = fixture.start(0, PANIC).await;
    let next = fixture.wait(&fixture.start(1, SUCCEED).await).await;
    assert_eq!(metadata(&next).state(), State::Succeeded);
    let done = fixture.wait(&name).await;
    assert_eq!((metadata(&done).state(), metadata(&done).attempt), (State::Failed, 2));
    assert_eq!(failure(done), (Code::Internal, "OPERATION_PANICKED".to_owned()));
}

on_both!(cancel_ends_a_hanging_operation_and_leaves_a_done_one);
async fn cancel_ends_a_hanging_operation_and_leaves_a_done_one(fixture: Fixture) {
    let name = fixture.start(1, HANG).await;
    fixture.running(&name).await;
    fixture.cancel(&name).await;
    let done = fixture.wait(&name).await;
    assert_eq!(metadata(&done).state(), State::Cancelled);
    assert!(metadata(&done).cancel_requested);
    assert_eq!(failure(done), (Code::Cancelled, "OPERATION_CANCELLED".to_owned()));
    assert_whole(&fixture.history(&name).await);

    let done = fixture.wait(&fixture.start(0, SUCCEED).await).await;
    fixture.cancel(&done.name).await;
    assert_eq!(fixture.get(&done.name).await, done);
}

on_both!(cancel_and_finish_race_to_one_end);
async fn cancel_and_finish_race_to_one_end(fixture: Fixture) {
    for _ in 0..100 {
        let name = fixture.start(0, SUCCEED).await;
        fixture.cancel(&name).await;
        let done = fixture.wait(&name).await;
        assert!(matches!(metadata(&done).state(), State::Succeeded | State::Cancelled));
        assert_whole(&fixture.history(&name).await);
    }
}

on_both!(progress_within_the_interval_is_coalesced_to_the_last_report);
async fn progress_within_the_interval_is_coalesced_to_the_last_report(fixture: Fixture) {
    let name = fixture.start(0, REPORT).await;
    let last = metadata(&fixture.wait(&name).await).progress.unwrap().to_msg::<prost_types::Duration>().unwrap();
    assert_eq!(last.seconds, 500);
    let history = fixture.history(&name).await;
    assert_whole(&history);
    assert!(history.len() < 100, "{} changes for 500 calls", history.len());
}

on_both!(progress_that_waits_is_written_without_a_further_report);
async fn progress_that_waits_is_written_without_a_further_report(fixture: Fixture) {
    let mut watch = fixture.watch(&fixture.start(0, REPORT_AND_HANG).await, Vec::new()).await;
    let last = prost_types::Duration { seconds: 500, nanos: 0 };
    let last = prost_types::Any::from_msg(&last).unwrap();
    while metadata(&watch.next().await.unwrap().1).progress.as_ref() != Some(&last) {}
}

on_both!(wait_is_bounded_for_each_timeout);
async fn wait_is_bounded_for_each_timeout(fixture: Fixture) {
    let name = fixture.start(0, HANG).await;
    let wait = async |seconds| {
        let timeout = Some(prost_types::Duration { seconds, nanos: 0 });
        let mut request = tonic::Request::new(WaitOperationRequest { name: name.clone(), timeout });
        request.set_timeout(std::time::Duration::from_millis(500));
        OperationsClient::new(fixture.channel.clone()).wait_operation(request).await
    };
    assert!(!wait(i64::MAX).await.unwrap().into_inner().done);
    assert_eq!(wait(-1).await.unwrap_err().code(), Code::InvalidArgument);
}

on_both!(deadline_fails_a_hanging_operation);
async fn deadline_fails_a_hanging_operation(fixture: Fixture) {
    let name = fixture.start(0, HANG).await;
    fixture.running(&name).await;
    fixture.tamper("UPDATE operations SET fence = fence + 1, deadline_at = 1, lease_until = 0").await;
    let done = fixture.wait(&name).await;
    assert_eq!(failure(done), (Code::DeadlineExceeded, "OPERATION_DEADLINE_EXCEEDED".to_owned()));
}

on_both!(delete_needs_a_done_operation);
async fn delete_needs_a_done_operation(fixture: Fixture) {
    let name = fixture.start(0, HANG).await;
    fixture.running(&name).await;
    assert_eq!(refused(fixture.delete(&name).await), (Code::FailedPrecondition, "OPERATION_NOT_DONE".to_owned()));
    assert_eq!(metadata(&fixture.get(&name).await).state(), State::Running, "Delete does not cancel");

    fixture.cancel(&name).await;
    fixture.wait(&name).await;
    fixture.delete(&name).await.unwrap();
    let unknown = (Code::NotFound, "OPERATION_NOT_FOUND".to_owned());
    assert_eq!(refused(fixture.find(&name).await), unknown);
    fixture.delete(&name).await.expect("a repeat has no further effect");
    let elsewhere = name.replace("services/work", "services/other");
    assert_eq!(refused(fixture.delete(&elsewhere).await), (Code::NotFound, "SERVICE_NOT_FOUND".to_owned()));
}

on_both!(idempotency_key_is_a_uuid_and_the_same_in_each_attempt);
async fn idempotency_key_is_a_uuid_and_the_same_in_each_attempt(fixture: Fixture) {
    let done = fixture.wait(&fixture.start(0, KEY).await).await;
    let Some(operation::Result::Response(response)) = &done.result else { panic!("{done:?}") };
    let response = response.to_msg::<prost_types::Duration>().unwrap();
    assert_eq!((response.seconds, response.nanos, metadata(&done).attempt), (1, 5, 2));
}
