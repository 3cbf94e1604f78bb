//! Sagas: work with a way back. What they did is counted in an append-only table.

use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mesh::operations::Start;
use mesh::saga::{Forward, Saga, Step, Undo};
use mesh::{Config, Operations, Process, Service, Store};
use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::operation_control_service_client::OperationControlServiceClient;
use mesh_proto::mesh::operations::v1::{OperationMetadata, Phase, ResumeRequest, RetryRequest, State, StepState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::fixture::{Fixture, SUCCEED, assert_whole, failure, metadata, refused};
use crate::rent::{
    ANSWER, AWAY, CHARGE_AND_HANG, DECLINE, HANG_IN_GRANT, LATE, LOSE_THE_ANSWER, LOSE_THE_COMMIT, NO_GRANT,
    NO_RELEASE, PANIC, REFUND_TWICE, Rent, SCHEMA, SWALLOW, count,
};

/// Adds the switch that mends what fails.
const MEND: &str = "INSERT INTO effects (operation, effect) VALUES ('', 'mended')";
const CHARGES: &str = "SELECT count(*) FROM effects WHERE effect = 'charge'";

impl Fixture {
    async fn rent(&self, then: i32) -> String {
        let request = prost_types::Duration { seconds: 0, nanos: then };
        self.start_as(&Start::<Rent>::saga(Uuid::new_v4(), &request)).await
    }

    /// A rent with a deadline of 2 s.
    async fn rent_soon(&self, then: i32) -> String {
        let request = prost_types::Duration { seconds: 0, nanos: then };
        self.start_as(&Start::<Rent<2>>::saga(Uuid::new_v4(), &request)).await
    }

    async fn resume(&self, name: &str) -> Result<Operation, Status> {
        let request = ResumeRequest { name: name.to_owned() };
        let mut control = OperationControlServiceClient::new(self.channel.clone());
        Ok(control.resume(request).await?.into_inner())
    }

    /// Waits until an operation is in a phase, and returns its metadata.
    async fn until_phase(&self, name: &str, phase: Phase) -> OperationMetadata {
        let start = Instant::now();
        loop {
            let operation = metadata(&self.get(name).await);
            if operation.phase() == phase {
                return operation;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{name}: {operation:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The effects of an operation: reserved, released, charged, refunded, granted.
    async fn effects(&self, name: &str) -> [i64; 5] {
        let mut effects = [0; 5];
        for (effect, number) in ["reserve", "release", "charge", "refund", "grant"].iter().zip(&mut effects) {
            *number = count(&self.store, name, effect).await;
        }
        effects
    }

    /// Checks that a done operation is whole: it is granted and charged once, or nothing of it is left.
    async fn assert_granted_or_nothing(&self, operation: &Operation) {
        let effects = self.effects(&operation.name).await;
        let [reserved, released, charged, refunded, granted] = effects;
        match metadata(operation).state() {
            State::Succeeded => assert_eq!(effects, [1, 0, 1, 0, 1]),
            _ => assert!(
                reserved == released && charged == refunded && reserved <= 1 && charged <= 1 && granted == 0,
                "{operation:?}: {effects:?}"
            ),
        }
    }
}

/// The steps of an operation, with their states.
fn steps(operation: &OperationMetadata) -> Vec<(&str, StepState)> {
    operation.steps.iter().map(|step| (&step.name[..], step.state())).collect()
}

const UNDONE: [(&str, StepState); 2] = [("reserve", StepState::Undone), ("charge", StepState::Undone)];

on_both!(saga_that_is_cancelled_while_it_charges_is_undone);
async fn saga_that_is_cancelled_while_it_charges_is_undone(fixture: Fixture) {
    let name = fixture.rent(CHARGE_AND_HANG).await;
    fixture.until(CHARGES, 1).await;
    fixture.cancel(&name).await;
    let done = fixture.wait(&name).await;
    assert_eq!(metadata(&done).state(), State::Cancelled);
    assert_eq!(fixture.effects(&name).await, [1, 1, 1, 1, 0]);
    assert_eq!(steps(&metadata(&done)), UNDONE);
    assert_eq!(failure(done), (Code::Cancelled, "OPERATION_CANCELLED".to_owned()));
}

on_both!(saga_past_its_deadline_while_it_charges_is_undone);
async fn saga_past_its_deadline_while_it_charges_is_undone(fixture: Fixture) {
    let name = fixture.rent_soon(CHARGE_AND_HANG).await;
    let done = fixture.wait(&name).await;
    assert_eq!(fixture.effects(&name).await, [1, 1, 1, 1, 0]);
    assert_eq!(failure(done), (Code::DeadlineExceeded, "OPERATION_DEADLINE_EXCEEDED".to_owned()));
}

on_both!(saga_whose_peer_is_away_for_all_attempts_is_undone);
async fn saga_whose_peer_is_away_for_all_attempts_is_undone(fixture: Fixture) {
    let (away, panics) = (fixture.rent(AWAY).await, fixture.rent(PANIC).await);
    let done = fixture.wait(&away).await;
    assert_eq!(fixture.effects(&away).await, [1, 1, 0, 0, 0]);
    assert_eq!(failure(done), (Code::Unavailable, "AWAY".to_owned()), "the first cause");
    let done = fixture.wait(&panics).await;
    assert_eq!(fixture.effects(&panics).await, [1, 1, 0, 0, 0]);
    assert_eq!(failure(done).1, "OPERATION_PANICKED");
}

on_both!(saga_that_succeeds_or_is_declined_is_whole_and_shows_its_steps);
async fn saga_that_succeeds_or_is_declined_is_whole_and_shows_its_steps(fixture: Fixture) {
    let granted = fixture.rent(ANSWER).await;
    let done = fixture.wait(&granted).await;
    fixture.assert_granted_or_nothing(&done).await;
    let shown = metadata(&done);
    assert_eq!((shown.state(), shown.phase()), (State::Succeeded, Phase::Committed));
    let expected = ["reserve", "charge", "grant"].map(|step| (step, StepState::Done));
    assert_eq!(steps(&shown), expected);
    assert!(shown.steps.iter().all(|step| step.attempt == 1 && step.begin_time.is_some() && step.end_time.is_some()));
    let history = fixture.history(&granted).await;
    assert_whole(&history);
    assert_eq!(steps(&metadata(history.last().unwrap())), expected, "of Watch, too");

    let declined = fixture.rent(DECLINE).await;
    let done = fixture.wait(&declined).await;
    assert_eq!(fixture.effects(&declined).await, [1, 1, 0, 0, 0]);
    let shown = metadata(&done);
    assert_eq!((shown.state(), shown.phase(), &steps(&shown)[..]), (State::Failed, Phase::Undoing, &UNDONE[..]));
    assert_eq!(failure(done), (Code::FailedPrecondition, "CARD_DECLINED".to_owned()));
    assert_whole(&fixture.history(&declined).await);
    // Step rows outlive the end, their results do not, and a deletion takes both.
    let results = "SELECT count(*) FROM saga_steps WHERE length(result) > 0";
    fixture.until(results, 0).await;
    fixture.until("SELECT count(*) FROM saga_steps", 5).await;
    fixture.until("SELECT count(*) FROM operation_input", 1).await;
    fixture.until("SELECT count(*) FROM operation_clean_ups", 0).await;
    for name in [&granted, &declined] {
        fixture.delete(name).await.unwrap();
    }
    fixture.until("SELECT count(*) FROM saga_steps", 0).await;
    fixture.until("SELECT count(*) FROM operation_input", 0).await;
}

on_both!(saga_whose_answer_is_lost_charges_once);
async fn saga_whose_answer_is_lost_charges_once(fixture: Fixture) {
    let name = fixture.rent(LOSE_THE_ANSWER).await;
    let done = fixture.wait(&name).await;
    fixture.assert_granted_or_nothing(&done).await;
    assert_eq!(metadata(&done).state(), State::Succeeded);
    assert_eq!(metadata(&done).steps[1].attempt, 2);
}

on_both!(saga_refuses_a_charge_that_arrives_after_its_refund);
async fn saga_refuses_a_charge_that_arrives_after_its_refund(fixture: Fixture) {
    let name = fixture.rent(LATE).await;
    fixture.until("SELECT count(*) FROM saga_steps WHERE name = 'charge'", 1).await;
    fixture.cancel(&name).await;
    fixture.wait(&name).await;
    fixture.tamper(MEND).await;
    fixture.until("SELECT count(*) FROM effects WHERE effect = 'refused late'", 1).await;
    assert_eq!(fixture.effects(&name).await, [1, 1, 0, 0, 0]);
}

on_both!(saga_behind_its_pivot_ignores_cancel_and_deadline);
async fn saga_behind_its_pivot_ignores_cancel_and_deadline(fixture: Fixture) {
    let (name, soon) = (fixture.rent(HANG_IN_GRANT).await, fixture.rent_soon(HANG_IN_GRANT).await);
    fixture.until_phase(&name, Phase::Committed).await;
    fixture.until_phase(&soon, Phase::Committed).await;
    fixture.cancel(&name).await;
    // Past its deadline, under no lease: housekeeping does not end it either.
    fixture.tamper("UPDATE operations SET deadline_at = 1, lease_until = 0, fence = fence + 1").await;
    mesh_operations::end_past_deadline(&fixture.operations).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!fixture.get(&name).await.done && !fixture.get(&soon).await.done);
    fixture.tamper(MEND).await;
    for name in [&name, &soon] {
        let done = fixture.wait(name).await;
        assert_eq!(metadata(&done).state(), State::Succeeded);
        assert_eq!(fixture.effects(name).await, [1, 0, 1, 0, 1]);
    }
}

on_both!(saga_that_cannot_go_on_is_stuck_until_it_is_resumed);
async fn saga_that_cannot_go_on_is_stuck_until_it_is_resumed(fixture: Fixture) {
    let (forward, back) = (fixture.rent(NO_GRANT).await, fixture.rent(NO_RELEASE).await);
    for name in [&forward, &back] {
        let stuck = fixture.until_phase(name, Phase::Stuck).await;
        assert_eq!(stuck.state(), State::Pending);
        assert!(fixture.get(name).await.result.is_none(), "it is not done");
        // A cancellation changes nothing, nor does housekeeping.
        fixture.cancel(name).await;
        mesh_operations::end_past_deadline(&fixture.operations).await.unwrap();
        assert_eq!(metadata(&fixture.get(name).await).phase(), Phase::Stuck);
    }
    let shown = metadata(&fixture.get(&back).await);
    let failed = shown.steps.iter().find(|step| step.name == "reserve").unwrap();
    assert_eq!((failed.state(), failed.error.as_ref().unwrap().code), (StepState::Undoing, Code::NotFound.into()));
    until_metric(&fixture, "mesh_saga_stuck{service=\"work\",kind=\"Rent\"} 2").await;

    fixture.tamper(MEND).await;
    for name in [&forward, &back] {
        assert_eq!(fixture.resume(name).await.unwrap().name, *name, "the same operation");
    }
    let done = fixture.wait(&forward).await;
    assert_eq!(metadata(&done).state(), State::Succeeded);
    assert_eq!(fixture.effects(&forward).await, [1, 0, 1, 0, 1], "the same request ids");
    let done = fixture.wait(&back).await;
    assert_eq!(fixture.effects(&back).await, [1, 1, 0, 0, 0]);
    assert_eq!(failure(done).1, "CARD_DECLINED", "the first cause");
    until_metric(&fixture, "mesh_saga_stuck{service=\"work\",kind=\"Rent\"} 0").await;
}

/// Waits until `/metrics` has a line.
async fn until_metric(fixture: &Fixture, line: &str) {
    let (address, start) = (fixture.mesh.url().replace("http://", ""), Instant::now());
    loop {
        let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        connection.read_to_string(&mut page).await.unwrap();
        if page.contains(line) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{line}: {page}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

on_both!(resume_refuses_what_is_no_saga_or_done);
async fn resume_refuses_what_is_no_saga_or_done(fixture: Fixture) {
    let running = fixture.rent(HANG_IN_GRANT).await;
    let operation = fixture.resume(&running).await.unwrap();
    assert_eq!(operation.name, running, "a saga that is not stuck stays as it is");
    let work = fixture.start(0, SUCCEED).await;
    fixture.wait(&work).await;
    let not_stuck = (Code::FailedPrecondition, "OPERATION_NOT_STUCK".to_owned());
    assert_eq!(refused(fixture.resume(&work).await), not_stuck);
    fixture.tamper(MEND).await;
    fixture.wait(&running).await;
    assert_eq!(refused(fixture.resume(&running).await), not_stuck);
    let unknown = format!("services/work/operations/{}", Uuid::new_v4());
    assert_eq!(refused(fixture.resume(&unknown).await), (Code::NotFound, "OPERATION_NOT_FOUND".to_owned()));
    assert_eq!(refused(fixture.resume("work").await), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
}

on_both!(saga_retries_an_undo_that_fails_for_a_while);
async fn saga_retries_an_undo_that_fails_for_a_while(fixture: Fixture) {
    let name = fixture.rent(REFUND_TWICE).await;
    let done = fixture.wait(&name).await;
    assert_eq!(fixture.effects(&name).await, [1, 1, 0, 0, 0]);
    assert_eq!(metadata(&done).steps[1].attempt, 2, "of undoing");
    assert_eq!(failure(done).1, "CARD_DECLINED");
    assert_eq!(count(&fixture.store, &name, "result").await, 0, "a declined charge has no result");
}

on_both!(saga_undoes_a_step_once_although_the_answer_of_its_commit_is_lost);
async fn saga_undoes_a_step_once_although_the_answer_of_its_commit_is_lost(fixture: Fixture) {
    let name = fixture.rent(LOSE_THE_COMMIT).await;
    let done = fixture.wait(&name).await;
    assert_eq!(fixture.effects(&name).await, [1, 1, 0, 0, 0]);
    assert_eq!(steps(&metadata(&done)), UNDONE);
}

on_both!(saga_that_was_started_as_other_work_is_undone);
async fn saga_that_was_started_as_other_work_is_undone(fixture: Fixture) {
    let name = fixture.rent(AWAY).await;
    fixture.until("SELECT count(*) FROM operations WHERE kind = 'Rent' AND state = 1 AND attempt = 1", 1).await;
    fixture.tamper("UPDATE operations SET phase = 0 WHERE kind = 'Rent'").await;
    let done = fixture.wait(&name).await;
    assert_eq!(fixture.effects(&name).await, [1, 1, 0, 0, 0]);
    assert_eq!(metadata(&done).state(), State::Failed);
}

on_both!(saga_that_swallows_a_failure_of_a_remote_step_is_undone);
async fn saga_that_swallows_a_failure_of_a_remote_step_is_undone(fixture: Fixture) {
    let name = fixture.rent(SWALLOW).await;
    let done = fixture.wait(&name).await;
    assert_eq!(failure(done).1, "INTERNAL");
    assert_eq!(fixture.effects(&name).await, [1, 1, 0, 0, 0]);
}

on_both!(saga_with_a_step_that_the_program_lacks_is_stuck_and_named);
async fn saga_with_a_step_that_the_program_lacks_is_stuck_and_named(fixture: Fixture) {
    let name = fixture.rent(CHARGE_AND_HANG).await;
    fixture.until(CHARGES, 1).await;
    // As if an earlier version of the program had begun the step, and had ended since.
    fixture.tamper("UPDATE saga_steps SET name = 'bill' WHERE name = 'charge'").await;
    fixture.tamper("UPDATE operations SET fence = fence + 1, lease_until = 0 WHERE state = 2").await;
    let stuck = fixture.until_phase(&name, Phase::Stuck).await;
    assert_eq!(steps(&stuck), [("reserve", StepState::Done), ("bill", StepState::Begun)]);
    assert!(stuck.steps[1].error.as_ref().unwrap().message.contains("`bill`"));
    // Nothing is lost: a program that has the step goes on.
    fixture.tamper("UPDATE saga_steps SET name = 'charge' WHERE name = 'bill'").await;
    fixture.resume(&name).await.unwrap();
    fixture.cancel(&name).await;
    fixture.wait(&name).await;
    assert_eq!(fixture.effects(&name).await, [1, 1, 1, 1, 0]);
}

on_both!(saga_that_no_worker_has_claimed_ends_at_once);
async fn saga_that_no_worker_has_claimed_ends_at_once(fixture: Fixture) {
    let request = prost_types::Duration::default();
    let mut tx = fixture.store.begin().await.unwrap();
    let start = Start::<Rent>::saga(Uuid::new_v4(), &request);
    let name = fixture.operations.start_in(&mut tx, &start).await.unwrap().name;
    sqlx::query("UPDATE operations SET kind = 'Later'").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    fixture.cancel(&name).await;
    let done = fixture.get(&name).await;
    assert!(done.done);
    assert_eq!((metadata(&done).state(), metadata(&done).steps.len()), (State::Cancelled, 0));
}

on_both!(saga_past_its_deadline_without_a_worker_is_undone_by_the_next);
async fn saga_past_its_deadline_without_a_worker_is_undone_by_the_next(fixture: Fixture) {
    let name = fixture.rent(CHARGE_AND_HANG).await;
    fixture.until(CHARGES, 1).await;
    fixture
        .tamper(
            "UPDATE operations SET fence = fence + 1, deadline_at = 1, lease_until = 0, kind = 'Later' WHERE state = 2",
        )
        .await;
    mesh_operations::end_past_deadline(&fixture.operations).await.unwrap();
    let waiting = metadata(&fixture.get(&name).await);
    assert_eq!((waiting.state(), waiting.phase()), (State::Pending, Phase::Undoing));
    // As if a program that works on the kind ran again.
    fixture.tamper("UPDATE operations SET kind = 'Rent'").await;
    let done = fixture.wait(&name).await;
    assert_eq!(failure(done).1, "OPERATION_DEADLINE_EXCEEDED");
    assert_eq!(fixture.effects(&name).await, [1, 1, 1, 1, 0]);
}

on_both!(saga_survives_a_restart_in_each_phase);
async fn saga_survives_a_restart_in_each_phase(fixture: Fixture) {
    let (charging, granting) = (fixture.rent(CHARGE_AND_HANG).await, fixture.rent(HANG_IN_GRANT).await);
    let releasing = fixture.rent(NO_RELEASE).await;
    fixture.until(CHARGES, 2).await;
    fixture.until_phase(&granting, Phase::Committed).await;
    fixture.until_phase(&releasing, Phase::Stuck).await;
    let fixture = fixture.restart().await;
    assert_eq!(metadata(&fixture.get(&releasing).await).phase(), Phase::Stuck);
    fixture.cancel(&charging).await;
    fixture.tamper(MEND).await;
    fixture.resume(&releasing).await.unwrap();
    for name in [&charging, &granting, &releasing] {
        let done = fixture.wait(name).await;
        fixture.assert_granted_or_nothing(&done).await;
    }
}

on_both!(cancel_and_lost_leases_race_the_pivot_and_leave_one_whole_end);
async fn cancel_and_lost_leases_race_the_pivot_and_leave_one_whole_end(fixture: Fixture) {
    // On Postgres, two processes claim.
    let _replica = if fixture.store.dialect().is_alone() { None } else { Some(fixture.replica().await) };
    let mut ends = [0; 2];
    for round in 0..40_u64 {
        let mut names = Vec::new();
        for _ in 0..8 {
            names.push(fixture.rent(ANSWER).await);
        }
        let pauses = names.iter().zip(0_u64..).map(|(name, number)| {
            let (fixture, pause) = (&fixture, Duration::from_micros((round * 8 + number) * 7919 % 12_000));
            async move {
                tokio::time::sleep(pause).await;
                fixture.cancel(name).await;
            }
        });
        let zombies =
            fixture.tamper("UPDATE operations SET fence = fence + 1, lease_until = 0 WHERE state = 2 AND id LIKE '%3'");
        tokio::join!(futures_util::future::join_all(pauses), zombies);
        for name in names {
            let done = fixture.wait(&name).await;
            fixture.assert_granted_or_nothing(&done).await;
            ends[usize::from(metadata(&done).state() == State::Succeeded)] += 1;
        }
    }
    assert!(ends.iter().all(|end| *end > 0), "both ends occur: {ends:?}");
}

on_both!(clock_that_went_back_gives_a_saga_no_more_time_until_it_is_stuck);
async fn clock_that_went_back_gives_a_saga_no_more_time_until_it_is_stuck(fixture: Fixture) {
    let name = fixture.rent(HANG_IN_GRANT).await;
    fixture.until_phase(&name, Phase::Committed).await;
    fixture
        .tamper(
            "UPDATE operations SET phase_since = phase_since + 86400000000, lease_until = lease_until + 86400000000",
        )
        .await;
    fixture.until("SELECT count(*) FROM operations WHERE phase_since > created + 3600000000", 0).await;
}

on_both!(retry_of_a_saga_that_was_undone_is_a_saga_of_its_own);
async fn retry_of_a_saga_that_was_undone_is_a_saga_of_its_own(fixture: Fixture) {
    let declined = fixture.rent(DECLINE).await;
    fixture.wait(&declined).await;
    let request = RetryRequest { name: declined.clone(), request_id: Uuid::new_v4().to_string() };
    let again = OperationControlServiceClient::new(fixture.channel.clone()).retry(request).await.unwrap().into_inner();
    let done = fixture.wait(&again.name).await;
    assert_eq!((metadata(&done).phase(), &steps(&metadata(&done))[..]), (Phase::Undoing, &UNDONE[..]));
    assert_eq!(fixture.effects(&again.name).await, [1, 1, 0, 0, 0]);
}

/// A service with the saga, whose operations and store it sends.
fn rents(sender: mpsc::Sender<(Operations, Store)>) -> Process {
    let service = Service::new("work", &[]).owns(SCHEMA).runs(move |resources| {
        sender.send((resources.operations(), resources.store())).unwrap();
        Rent::<3600> { store: resources.store() }
    });
    Process::from(service)
}

/// Starts a process on the database in `folder`, as soon as the one before has let go of it.
async fn start_on(folder: &Path) -> (mesh::Running, Operations, Store) {
    loop {
        let (sender, receiver) = mpsc::channel();
        let process = rents(sender);
        let arguments = ["test", "--listen=127.0.0.1:0", "--set=registry=local", "--data-dir"].map(OsString::from);
        let config = Config::load(&process, arguments.into_iter().chain([folder.into()]), []).unwrap();
        match mesh::start(process, &config).await {
            Ok(running) => {
                let (operations, store) = receiver.recv().unwrap();
                return (running, operations, store);
            }
            Err(error) => assert!(error.to_string().contains("is open in another process"), "{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Each process ends at once, at any await, in the midst of its sagas.
#[tokio::test]
async fn processes_that_end_at_any_moment_leave_whole_sagas() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for round in 0..100_u64 {
        let (running, operations, _) = start_on(folder.path()).await;
        for then in [ANSWER, LOSE_THE_ANSWER, DECLINE, REFUND_TWICE] {
            let request = prost_types::Duration { seconds: 0, nanos: then };
            let start = Start::<Rent>::saga(Uuid::new_v4(), &request);
            names.push(operations.start(&start).await.unwrap().name);
        }
        tokio::time::sleep(Duration::from_micros(round * 7919 % 15_000)).await;
        drop(running);
    }
    // The last one ends in order, so that the fixture finds the database free.
    start_on(folder.path()).await.0.drain(Duration::ZERO).await;
    let fixture = Fixture::in_folder(folder).await;
    let mut ends = [0; 2];
    for name in names {
        let done = fixture.wait(&name).await;
        fixture.assert_granted_or_nothing(&done).await;
        ends[usize::from(metadata(&done).state() == State::Succeeded)] += 1;
    }
    assert!(ends.iter().all(|end| *end > 0), "both ends occur: {ends:?}");
}

on_both!(saga_that_is_cancelled_around_its_pivot_has_one_end_and_is_whole);
/// 200 races, or SOAK_RACES.
async fn saga_that_is_cancelled_around_its_pivot_has_one_end_and_is_whole(fixture: Fixture) {
    let races = std::env::var("SOAK_RACES").map_or(200, |races| races.parse().unwrap());
    // How long a rent takes on this machine now.
    let begun = Instant::now();
    fixture.wait(&fixture.rent(ANSWER).await).await;
    let whole = begun.elapsed();
    let fixture = &fixture;
    let race = async |race: u32| {
        let name = fixture.rent(ANSWER).await;
        // From before the saga begins to after its end.
        tokio::time::sleep(whole.mul_f64(f64::from(race * 7 % 60) / 30.0)).await;
        fixture.cancel(&name).await;
        let done = fixture.wait(&name).await;
        fixture.assert_granted_or_nothing(&done).await;
        metadata(&done).state()
    };
    let mut ends = [0; 2];
    for first in (0..races).step_by(8) {
        for state in futures_util::future::join_all((first..first + 8).map(race)).await {
            assert!(matches!(state, State::Succeeded | State::Cancelled), "{state:?}");
            ends[usize::from(state == State::Succeeded)] += 1;
        }
    }
    assert!(ends.iter().all(|end| *end > 0), "both ends occur: {ends:?}");
}

/// A saga that cannot be registered.
struct Twice;

impl Saga for Twice {
    const KIND: &'static str = "Twice";
    const STEPS: &'static [Step] = &[Step::local("a"), Step::remote("a").pivot()];
    type Request = ();
    type Response = prost_types::Duration;
    type Error = Status;

    async fn run(&self, _: &Forward, (): ()) -> Result<prost_types::Duration, Status> {
        Err(Status::internal("never"))
    }

    async fn undo(&self, _: &Undo<'_>, _: &str, (): &()) -> Result<(), Status> {
        Err(Status::internal("never"))
    }
}

#[tokio::test]
async fn saga_with_two_steps_of_one_name_keeps_the_process_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::from(Service::new("work", &[]).runs(|_| Twice));
    let arguments = ["test", "--listen=127.0.0.1:0", "--set=registry=local", "--data-dir"].map(OsString::from);
    let arguments = arguments.into_iter().chain([folder.path().into()]);
    let config = Config::load(&process, arguments, []).unwrap();
    let refused = mesh::start(process, &config).await.err().unwrap();
    assert_eq!(format!("{refused:#}"), "the saga `Twice` has two steps of the name `a`: rename one");
}
