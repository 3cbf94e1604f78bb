//! What becomes of an operation when who works on it goes away.

use std::sync::atomic::Ordering;

use mesh_proto::google::longrunning::WaitOperationRequest;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::mesh::operations::v1::State;
use tonic::Code;

use crate::bench::{Bench, HANG, assert_whole, failure, metadata};

on_both!(a_drain_gives_work_back_and_the_next_process_goes_on_at_once);
async fn a_drain_gives_work_back_and_the_next_process_goes_on_at_once(bench: Bench) {
    let name = bench.begin(2, HANG).await;
    bench.running(&name).await;
    let bench = bench.restart().await;
    bench.running(&name).await;
    let again = metadata(&bench.get(&name).await);
    assert_eq!((again.state(), again.attempt), (State::Running, 1), "a drain is no attempt");
    assert_eq!(bench.attempts.load(Ordering::SeqCst), 2);
    bench.cancel(&name).await;
    bench.wait(&name).await;
    assert_whole(&bench.history(&name).await);
}

on_both!(a_drain_does_not_wait_for_who_waits);
async fn a_drain_does_not_wait_for_who_waits(bench: Bench) {
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    let waiting = tokio::spawn({
        let (channel, name) = (bench.channel.clone(), name.clone());
        async move {
            let request = WaitOperationRequest { name, timeout: None };
            OperationsClient::new(channel).wait_operation(request).await.unwrap().into_inner()
        }
    });
    // Sent before the drain: an answer to what came behind it on the same connection says so.
    bench.get(&name).await;
    let start = std::time::Instant::now();
    bench.mesh.drain().await;
    assert!(start.elapsed() < std::time::Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(!waiting.await.unwrap().done);
}

on_both!(a_worker_that_lost_its_lease_writes_nothing);
async fn a_worker_that_lost_its_lease_writes_nothing(bench: Bench) {
    let name = bench.begin(1, HANG).await;
    bench.running(&name).await;
    // Somebody else has claimed it, and works on it.
    bench.tamper("UPDATE operations SET fence = fence + 1").await;
    bench.cancel(&name).await;
    let revision = metadata(&bench.get(&name).await).revision;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let still = metadata(&bench.get(&name).await);
    assert_eq!((still.state(), still.revision), (State::Running, revision), "the end is not this worker's to write");

    // And that somebody dies.
    bench.tamper("UPDATE operations SET lease_until = 0").await;
    let done = bench.wait(&name).await;
    assert_eq!(metadata(&done).state(), State::Cancelled);
    assert_whole(&bench.history(&name).await);
}

on_both!(what_nobody_works_on_ends_when_its_time_is_over);
async fn what_nobody_works_on_ends_when_its_time_is_over(bench: Bench) {
    let (over, waiting) = (bench.begin_asleep().await, bench.begin_asleep().await);
    bench.tamper("UPDATE operations SET kind = 'Forgotten', run_at = 1").await;
    bench.tamper("UPDATE operations SET deadline_at = 1 WHERE created = (SELECT MIN(created) FROM operations)").await;
    let bench = bench.restart().await;
    assert_eq!(failure(bench.wait(&over).await), (Code::DeadlineExceeded, "OPERATION_DEADLINE_EXCEEDED".to_owned()));
    assert_whole(&bench.history(&over).await);
    assert_eq!(metadata(&bench.get(&waiting).await).state(), State::Pending);
}

on_both!(what_kills_its_worker_every_time_is_given_up);
async fn what_kills_its_worker_every_time_is_given_up(bench: Bench) {
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    bench.tamper("UPDATE operations SET fence = fence + 1, attempt = 2, lease_until = 0").await;
    let done = bench.wait(&name).await;
    assert_eq!(failure(done), (Code::Internal, "OPERATION_ABANDONED".to_owned()));
}
