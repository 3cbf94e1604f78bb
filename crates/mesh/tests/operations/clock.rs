//! A wall clock that went back: times that were stored before lie ahead.

use mesh_proto::mesh::operations::v1::State;

use uuid::{NoContext, Timestamp, Uuid};

use crate::fixture::{Fixture, HANG, metadata};

const HOUR: i64 = 3600 * 1_000_000;

/// The stored times, as the clock of yesterday sees them.
const TIMES: &str = "UPDATE operations SET created = created + 86400000000, updated = updated + 86400000000,
    run_at = run_at + 86400000000, deadline_at = deadline_at + 86400000000";

/// The id of an operation that started a day from now.
fn tomorrow() -> Uuid {
    let seconds = u64::try_from(mesh::store::now() / 1_000_000).unwrap() + 86_400;
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0))
}

impl Fixture {
    /// The time until the deadline of the only operation, in microseconds.
    async fn left(&self) -> i64 {
        let now = mesh::store::now();
        let deadline: i64 =
            sqlx::query_scalar("SELECT deadline_at FROM operations").fetch_one(self.store.reader()).await.unwrap();
        deadline - now
    }
}

on_both!(clock_that_went_back_leaves_a_new_operation_due_at_once);
async fn clock_that_went_back_leaves_a_new_operation_due_at_once(fixture: Fixture) {
    let name = fixture.start_delayed().await;
    fixture.tamper(TIMES).await;
    fixture.release(&name).await;
    let left = fixture.left().await;
    assert!((HOUR - 60_000_000..=HOUR).contains(&left), "{left} of an hour until its deadline");
}

on_both!(clock_that_went_back_a_little_leaves_a_new_operation_due_at_once);
async fn clock_that_went_back_a_little_leaves_a_new_operation_due_at_once(fixture: Fixture) {
    let name = fixture.start_delayed().await;
    fixture.tamper("UPDATE operations SET run_at = run_at + 55000000, created = created + 55000000").await;
    let begin = std::time::Instant::now();
    fixture.release(&name).await;
    assert!(begin.elapsed() < std::time::Duration::from_secs(40), "{:?}", begin.elapsed());
}

on_both!(clock_that_went_back_voids_the_lease_of_a_dead_worker);
async fn clock_that_went_back_voids_the_lease_of_a_dead_worker(fixture: Fixture) {
    let name = fixture.start_delayed().await;
    fixture.tamper(TIMES).await;
    fixture.tamper("UPDATE operations SET state = 2, fence = 1, attempt = 1, lease_until = run_at + 30000000").await;
    fixture.tamper("UPDATE operations SET kind = 'Steps'").await;
    fixture.cancel(&name).await;
    // The lease ends within its length: its worker might still live.
    assert_eq!(metadata(&fixture.wait(&name).await).state(), State::Cancelled);
}

on_both!(clock_that_went_back_leaves_a_retry_due_after_the_longest_pause);
async fn clock_that_went_back_leaves_a_retry_due_after_the_longest_pause(fixture: Fixture) {
    let name = fixture.start(0, HANG).await;
    fixture.running(&name).await;
    fixture.tamper("UPDATE operations SET state = 1, fence = fence + 1").await;
    fixture.tamper(TIMES).await;
    fixture.running(&name).await;
}

on_both!(clock_that_went_back_leaves_the_ids_of_operations_in_order);
async fn clock_that_went_back_leaves_the_ids_of_operations_in_order(fixture: Fixture) {
    fixture.start_delayed().await;
    let tomorrow = tomorrow().to_string();
    let mut tx = fixture.store.begin().await.unwrap();
    sqlx::query("UPDATE operations SET id = $1").bind(&tomorrow).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let mut before = format!("services/work/operations/{tomorrow}");
    for _ in 0..3 {
        let next = fixture.start(0, HANG).await;
        assert!(next > before, "{next} after {before}");
        before = next;
    }
}
