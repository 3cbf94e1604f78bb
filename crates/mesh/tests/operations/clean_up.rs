//! The clean-up after operations that ended without success.

use std::time::{Duration, Instant};

use mesh_proto::mesh::operations::v1::State;

use crate::fixture::{
    CLEAN_TWICE, FAIL_FOR_GOOD, FAIL_ONCE, Fixture, HANG, HANG_IN_CLEAN_UP, PANIC, SUCCEED, metadata,
};

const OPEN: &str = "SELECT COUNT(*) FROM operation_clean_ups";

impl Fixture {
    /// The number of runs of the clean-up of an operation.
    fn cleaned(&self, name: &str) -> usize {
        self.cleaned.lock().unwrap().iter().filter(|cleaned| *cleaned == name).count()
    }

    /// Waits until the clean-up of an operation has begun so many times.
    async fn until_cleaned(&self, name: &str, times: usize) {
        let start = Instant::now();
        while self.cleaned(name) < times {
            assert!(start.elapsed() < Duration::from_secs(60), "{name}: {}", self.cleaned(name));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

on_both!(clean_up_follows_each_end_without_success_and_no_other);
async fn clean_up_follows_each_end_without_success_and_no_other(fixture: Fixture) {
    let cancelled = fixture.start(2, HANG).await;
    fixture.until("SELECT COUNT(*) FROM operation_steps", 2).await;
    fixture.cancel(&cancelled).await;
    let pending = fixture.start_delayed().await;
    fixture.cancel(&pending).await;
    fixture.tamper("UPDATE operation_clean_ups SET kind = 'Steps'").await;
    let abandoned = fixture.start(0, HANG).await;
    fixture.running(&abandoned).await;
    fixture.tamper("UPDATE operations SET fence = fence + 1, attempt = 2, lease_until = 0 WHERE state = 2").await;
    fixture.wait(&abandoned).await;
    let past_deadline = fixture.start(0, HANG).await;
    fixture.running(&past_deadline).await;
    fixture.tamper("UPDATE operations SET fence = fence + 1, deadline_at = 1, lease_until = 0 WHERE state = 2").await;
    let (failed, exhausted) = (fixture.start(0, FAIL_FOR_GOOD).await, fixture.start(0, PANIC).await);
    let (succeeded, second) = (fixture.start(3, SUCCEED).await, fixture.start(1, FAIL_ONCE).await);
    for name in [&failed, &exhausted, &succeeded, &second] {
        fixture.wait(name).await;
    }
    for name in [&cancelled, &pending, &abandoned, &past_deadline, &failed, &exhausted] {
        assert_ne!(metadata(&fixture.wait(name).await).state(), State::Succeeded);
        fixture.until_cleaned(name, 1).await;
    }
    fixture.until(OPEN, 0).await;
    assert_eq!((fixture.cleaned(&succeeded), fixture.cleaned(&second)), (0, 0));
    assert_eq!(fixture.cleaned.lock().unwrap().len(), 6, "each once");
    fixture.until("SELECT COUNT(*) FROM operation_steps", 0).await;
    // A failed operation keeps its input for a retry.
    let kept = "SELECT COUNT(*) FROM operation_input";
    fixture.until(kept, 4).await;
}

on_both!(clean_up_ends_an_operation_of_housekeeping_too);
async fn clean_up_ends_an_operation_of_housekeeping_too(fixture: Fixture) {
    let name = fixture.start_delayed().await;
    fixture.tamper("UPDATE operations SET deadline_at = 1").await;
    let fixture = fixture.restart().await;
    fixture.wait(&name).await;
    // As if the next version of the program worked on the kind again.
    fixture.tamper("UPDATE operation_clean_ups SET kind = 'Steps'").await;
    fixture.until_cleaned(&name, 1).await;
    fixture.until(OPEN, 0).await;
}

on_both!(clean_up_that_fails_runs_again_and_delays_no_end);
async fn clean_up_that_fails_runs_again_and_delays_no_end(fixture: Fixture) {
    let (failing, hanging) = (fixture.start(0, CLEAN_TWICE).await, fixture.start(0, HANG_IN_CLEAN_UP).await);
    assert!(fixture.wait(&failing).await.done && fixture.wait(&hanging).await.done);
    fixture.until_cleaned(&hanging, 1).await;
    // Deleted by its owner meanwhile: the clean-up keeps what it needs.
    fixture.delete(&failing).await.unwrap();
    fixture.until_cleaned(&failing, 2).await;
    fixture.until_cleaned(&hanging, 2).await;
    fixture.until(OPEN, 0).await;
    fixture.until("SELECT COUNT(*) FROM operation_input", 1).await;
}

on_both!(clean_up_that_a_drain_stops_runs_in_the_next_process);
async fn clean_up_that_a_drain_stops_runs_in_the_next_process(fixture: Fixture) {
    let name = fixture.start(1, HANG_IN_CLEAN_UP).await;
    fixture.until_cleaned(&name, 1).await;
    let fixture = fixture.restart().await;
    fixture.until_cleaned(&name, 2).await;
    fixture.until(OPEN, 0).await;
}

on_both!(clean_up_of_an_expired_operation_is_given_up);
async fn clean_up_of_an_expired_operation_is_given_up(fixture: Fixture) {
    let name = fixture.start_delayed().await;
    fixture.cancel(&name).await;
    fixture.until(OPEN, 1).await;
    fixture.tamper("UPDATE operations SET finished = 1").await;
    fixture.tamper("UPDATE operation_clean_ups SET ended = 1").await;
    let fixture = fixture.restart().await;
    for table in [OPEN, "SELECT COUNT(*) FROM operations", "SELECT COUNT(*) FROM operation_input"] {
        fixture.until(table, 0).await;
    }
}
