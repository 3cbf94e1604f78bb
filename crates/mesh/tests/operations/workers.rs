//! Workers that drain, lose their lease, or die.

use std::sync::atomic::Ordering;

use mesh_proto::google::longrunning::WaitOperationRequest;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::mesh::operations::v1::State;
use tonic::Code;

use crate::fixture::{Fixture, HANG, assert_whole, failure, metadata};

on_both!(drain_returns_work_and_the_next_process_resumes_at_once);
async fn drain_returns_work_and_the_next_process_resumes_at_once(fixture: Fixture) {
    let name = fixture.start(2, HANG).await;
    fixture.running(&name).await;
    let fixture = fixture.restart().await;
    fixture.running(&name).await;
    let again = metadata(&fixture.get(&name).await);
    assert_eq!((again.state(), again.attempt), (State::Running, 1), "a drain does not count as an attempt");
    assert_eq!(fixture.attempts.load(Ordering::SeqCst), 2);
    fixture.cancel(&name).await;
    fixture.wait(&name).await;
    assert_whole(&fixture.history(&name).await);
}

on_both!(drain_does_not_wait_for_a_wait_call);
async fn drain_does_not_wait_for_a_wait_call(fixture: Fixture) {
    let name = fixture.start(0, HANG).await;
    fixture.running(&name).await;
    let waiting = tokio::spawn({
        let (channel, name) = (fixture.channel.clone(), name.clone());
        async move {
            let request = WaitOperationRequest { name, timeout: None };
            OperationsClient::new(channel).wait_operation(request).await.unwrap().into_inner()
        }
    });
    // The answer to a later call on the same connection shows that the wait has arrived before the drain.
    fixture.get(&name).await;
    let start = std::time::Instant::now();
    fixture.mesh.drain().await;
    assert!(start.elapsed() < std::time::Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(!waiting.await.unwrap().done);
}

on_both!(worker_without_its_lease_writes_nothing);
async fn worker_without_its_lease_writes_nothing(fixture: Fixture) {
    let name = fixture.start(1, HANG).await;
    fixture.running(&name).await;
    // As if another worker had claimed the operation.
    fixture.tamper("UPDATE operations SET fence = fence + 1").await;
    fixture.cancel(&name).await;
    let revision = metadata(&fixture.get(&name).await).revision;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let still = metadata(&fixture.get(&name).await);
    assert_eq!((still.state(), still.revision), (State::Running, revision), "the write of the old worker is refused");

    // As if that worker had died.
    fixture.tamper("UPDATE operations SET lease_until = 0").await;
    let done = fixture.wait(&name).await;
    assert_eq!(metadata(&done).state(), State::Cancelled);
    assert_whole(&fixture.history(&name).await);
}

on_both!(deadline_ends_an_operation_without_a_worker);
async fn deadline_ends_an_operation_without_a_worker(fixture: Fixture) {
    let (over, waiting) = (fixture.start_delayed().await, fixture.start_delayed().await);
    fixture.tamper("UPDATE operations SET kind = 'Forgotten', run_at = 1").await;
    fixture.tamper("UPDATE operations SET deadline_at = 1 WHERE created = (SELECT MIN(created) FROM operations)").await;
    let fixture = fixture.restart().await;
    assert_eq!(failure(fixture.wait(&over).await), (Code::DeadlineExceeded, "OPERATION_DEADLINE_EXCEEDED".to_owned()));
    assert_whole(&fixture.history(&over).await);
    assert_eq!(metadata(&fixture.get(&waiting).await).state(), State::Pending);
}

on_both!(operation_that_kills_its_worker_each_time_is_abandoned);
async fn operation_that_kills_its_worker_each_time_is_abandoned(fixture: Fixture) {
    let name = fixture.start(0, HANG).await;
    fixture.running(&name).await;
    fixture.tamper("UPDATE operations SET fence = fence + 1, attempt = 2, lease_until = 0").await;
    let done = fixture.wait(&name).await;
    assert_eq!(failure(done), (Code::Internal, "OPERATION_ABANDONED".to_owned()));
}
