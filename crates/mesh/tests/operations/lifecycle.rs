//! How an operation begins, goes on and ends.

use mesh::operations::Start;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{ListOperationsRequest, WaitOperationRequest, operation};
use mesh_proto::mesh::operations::v1::State;
use tonic::Code;

use crate::bench::{
    Bench, FAIL_FOR_GOOD, FAIL_ONCE, HANG, PANIC, SUCCEED, Steps, TELL, TELL_AND_HANG, assert_whole, failure, metadata,
    refused, states,
};

on_both!(an_operation_is_told_from_its_begin_to_its_one_end);
async fn an_operation_is_told_from_its_begin_to_its_one_end(bench: Bench) {
    let name = bench.begin(3, SUCCEED).await;
    let done = bench.wait(&name).await;
    let Some(operation::Result::Response(response)) = &done.result else { panic!("{done:?}") };
    assert_eq!(response.to_msg::<prost_types::Duration>().unwrap().seconds, 3);
    assert_eq!(response.type_url, "type.googleapis.com/google.protobuf.Duration");

    let history = bench.history(&name).await;
    assert_whole(&history);
    assert_eq!(states(&history), [State::Running, State::Running, State::Running, State::Running, State::Succeeded]);
}

on_both!(the_same_request_starts_one_operation_and_another_under_its_id_none);
async fn the_same_request_starts_one_operation_and_another_under_its_id_none(bench: Bench) {
    let (id, request) = (uuid::Uuid::new_v4().to_string(), prost_types::Duration { seconds: 1, nanos: 0 });
    let start = Start::<Steps>::new(&id, &request);
    assert!(bench.operations.started(&start).await.unwrap().is_none());
    let mut names = Vec::new();
    for _ in 0..3 {
        let mut tx = bench.store.begin().await.unwrap();
        names.push(bench.operations.start_in(&mut tx, &start).await.unwrap().name);
        tx.commit().await.unwrap();
    }
    assert!(names.iter().all(|name| name == &names[0]), "{names:?}");
    assert_eq!(bench.operations.started(&start).await.unwrap().unwrap().name, names[0]);

    let other = prost_types::Duration { seconds: 2, nanos: 0 };
    let mut tx = bench.store.begin().await.unwrap();
    let refused = bench.operations.start_in(&mut tx, &Start::<Steps>::new(&id, &other)).await.unwrap_err();
    assert!(matches!(refused, mesh::store::Error::RequestIdReused));
}

on_both!(what_is_not_committed_has_not_started);
async fn what_is_not_committed_has_not_started(bench: Bench) {
    let (id, request) = (uuid::Uuid::new_v4().to_string(), prost_types::Duration::default());
    let mut tx = bench.store.begin().await.unwrap();
    bench.operations.start_in(&mut tx, &Start::<Steps>::new(&id, &request)).await.unwrap();
    drop(tx);
    let request = ListOperationsRequest { name: "services/work".to_owned(), ..Default::default() };
    let listed = OperationsClient::new(bench.channel.clone()).list_operations(request).await.unwrap().into_inner();
    assert!(listed.operations.is_empty());
}

on_both!(what_may_pass_is_tried_again_and_finished_steps_are_not);
async fn what_may_pass_is_tried_again_and_finished_steps_are_not(bench: Bench) {
    let name = bench.begin(2, FAIL_ONCE).await;
    let done = bench.wait(&name).await;
    assert_eq!((metadata(&done).state(), metadata(&done).attempt), (State::Succeeded, 2));
    let history = bench.history(&name).await;
    assert_whole(&history);
    let running = State::Running;
    assert_eq!(states(&history), [running, running, running, State::Pending, running, State::Succeeded]);
}

on_both!(what_is_final_is_not_tried_again);
async fn what_is_final_is_not_tried_again(bench: Bench) {
    let done = bench.wait(&bench.begin(0, FAIL_FOR_GOOD).await).await;
    assert_eq!((metadata(&done).state(), metadata(&done).attempt), (State::Failed, 1));
    assert_eq!(failure(done), (Code::FailedPrecondition, "NEVER".to_owned()));
}

on_both!(a_panic_fails_one_operation_after_its_attempts_and_no_other);
async fn a_panic_fails_one_operation_after_its_attempts_and_no_other(bench: Bench) {
    let name = bench.begin(0, PANIC).await;
    let next = bench.wait(&bench.begin(1, SUCCEED).await).await;
    assert_eq!(metadata(&next).state(), State::Succeeded);
    let done = bench.wait(&name).await;
    assert_eq!((metadata(&done).state(), metadata(&done).attempt), (State::Failed, 2));
    assert_eq!(failure(done), (Code::Internal, "OPERATION_PANICKED".to_owned()));
}

on_both!(what_hangs_is_cancelled_and_what_is_done_is_not);
async fn what_hangs_is_cancelled_and_what_is_done_is_not(bench: Bench) {
    let name = bench.begin(1, HANG).await;
    bench.running(&name).await;
    bench.cancel(&name).await;
    let done = bench.wait(&name).await;
    assert_eq!(metadata(&done).state(), State::Cancelled);
    assert!(metadata(&done).cancel_requested);
    assert_eq!(failure(done), (Code::Cancelled, "OPERATION_CANCELLED".to_owned()));
    assert_whole(&bench.history(&name).await);

    let done = bench.wait(&bench.begin(0, SUCCEED).await).await;
    bench.cancel(&done.name).await;
    assert_eq!(bench.get(&done.name).await, done);
}

on_both!(cancel_and_finish_race_to_one_end);
async fn cancel_and_finish_race_to_one_end(bench: Bench) {
    for _ in 0..100 {
        let name = bench.begin(0, SUCCEED).await;
        bench.cancel(&name).await;
        let done = bench.wait(&name).await;
        assert!(matches!(metadata(&done).state(), State::Succeeded | State::Cancelled));
        assert_whole(&bench.history(&name).await);
    }
}

on_both!(of_progress_that_comes_too_fast_the_last_is_told);
async fn of_progress_that_comes_too_fast_the_last_is_told(bench: Bench) {
    let name = bench.begin(0, TELL).await;
    let told = metadata(&bench.wait(&name).await).progress.unwrap().to_msg::<prost_types::Duration>().unwrap();
    assert_eq!(told.seconds, 500);
    let history = bench.history(&name).await;
    assert_whole(&history);
    assert!(history.len() < 100, "{} changes for 500 calls", history.len());
}

on_both!(the_last_progress_does_not_wait_for_the_next);
async fn the_last_progress_does_not_wait_for_the_next(bench: Bench) {
    let mut watch = bench.watch(&bench.begin(0, TELL_AND_HANG).await, Vec::new()).await;
    let last = prost_types::Duration { seconds: 500, nanos: 0 };
    let last = prost_types::Any::from_msg(&last).unwrap();
    while metadata(&watch.next().await.unwrap().1).progress.as_ref() != Some(&last) {}
}

on_both!(a_wait_is_bounded_whatever_it_asks_for);
async fn a_wait_is_bounded_whatever_it_asks_for(bench: Bench) {
    let name = bench.begin(0, HANG).await;
    let wait = async |seconds| {
        let timeout = Some(prost_types::Duration { seconds, nanos: 0 });
        let mut request = tonic::Request::new(WaitOperationRequest { name: name.clone(), timeout });
        request.set_timeout(std::time::Duration::from_millis(500));
        OperationsClient::new(bench.channel.clone()).wait_operation(request).await
    };
    assert!(!wait(i64::MAX).await.unwrap().into_inner().done);
    assert_eq!(wait(-1).await.unwrap_err().code(), Code::InvalidArgument);
}

on_both!(what_takes_too_long_fails);
async fn what_takes_too_long_fails(bench: Bench) {
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    bench.tamper("UPDATE operations SET fence = fence + 1, deadline_at = 1, lease_until = 0").await;
    let done = bench.wait(&name).await;
    assert_eq!(failure(done), (Code::DeadlineExceeded, "OPERATION_DEADLINE_EXCEEDED".to_owned()));
}

on_both!(what_is_done_can_be_deleted_and_what_is_not_cannot);
async fn what_is_done_can_be_deleted_and_what_is_not_cannot(bench: Bench) {
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    assert_eq!(refused(bench.delete(&name).await), (Code::FailedPrecondition, "OPERATION_NOT_DONE".to_owned()));
    assert_eq!(metadata(&bench.get(&name).await).state(), State::Running, "it is not cancelled");

    bench.cancel(&name).await;
    bench.wait(&name).await;
    bench.delete(&name).await.unwrap();
    let unknown = (Code::NotFound, "OPERATION_NOT_FOUND".to_owned());
    assert_eq!(refused(bench.find(&name).await), unknown);
    assert_eq!(refused(bench.delete(&name).await), unknown);
}
