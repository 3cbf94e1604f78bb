//! A kind of work or of saga, without its types: what a runner calls.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mesh_proto::mesh::operations::v1::{Phase, StepState};
use mesh_rpc::call::error::{DOMAIN, internal, status};
use mesh_rpc::call::peer;
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use super::attempt::Attempt;
use super::ended::Ended;
use super::failure::{is_transient, wire};
use super::forward::Forward;
use super::journal::Journal;
use super::outcome::Outcome;
use super::plan::{self, Step};
use super::saga::Saga;
use super::saga_steps::StepRow;
use super::schedule::Schedule;
use super::settings::Retention;
use super::undo::Undo;
use super::work::Work;

/// A kind of work, without its types.
pub struct Kind {
    pub(super) name: &'static str,
    pub(super) attempts: i64,
    pub(super) concurrency: usize,
    pub(super) is_saga: bool,
    /// Set for housekeeping, which the service itself starts.
    pub(super) schedule: Option<Schedule>,
    /// Runs an attempt.
    pub(super) run: Function<Attempt, Outcome>,
    pub(super) clean_up: Function<Ended, Result<(), Status>>,
}

/// A function of a type of work, from its handle and the input of the operation.
pub(super) type Function<H, T> = Box<dyn Fn(Arc<H>, Vec<u8>) -> Boxed<T> + Send + Sync>;
pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Kind {
    /// The kind of a type of work.
    pub fn new<W: Work>(work: W) -> Self {
        let concurrency = work.concurrency().max(1);
        let work = Arc::new(work);
        let cleaning = Arc::clone(&work);
        let run = move |attempt: Arc<Attempt>, input: Vec<u8>| -> Boxed<Outcome> {
            let work = Arc::clone(&work);
            Box::pin(async move { Outcome::Returned(run_work(&*work, &attempt, &input).await) })
        };
        let clean_up = move |ended: Arc<Ended>, input: Vec<u8>| -> Boxed<Result<(), Status>> {
            let work = Arc::clone(&cleaning);
            Box::pin(async move {
                let request = decode::<W::Request>(&input)?;
                work.clean_up(&ended, request).await.map_err(Into::into)
            })
        };
        let (run, clean_up, attempts) = (Box::new(run), Box::new(clean_up), W::ATTEMPTS.into());
        Self { name: W::KIND, attempts, concurrency, is_saga: false, schedule: None, run, clean_up }
    }

    /// The kind of a type of work that the service itself starts, each interval.
    ///
    /// # Errors
    ///
    /// An interval below 1 s: one line that says so.
    pub fn every<W: Work<Request = (), Response = ()>>(interval: Duration, work: W) -> Result<Self, String> {
        let schedule = Some(Schedule::new(W::KIND, interval, W::DEADLINE)?);
        Ok(Self { schedule, ..Self::new(work) })
    }

    /// Checks that the last run of housekeeping is kept until the next one is due.
    ///
    /// # Errors
    ///
    /// It is not: one line that says what to set.
    pub fn check_kept(&self, service: &str, retention: Retention) -> Result<(), String> {
        let (kind, keep) = (self.name, retention.operations);
        match self.schedule.map(|schedule| schedule.interval).filter(|interval| *interval > keep) {
            None => Ok(()),
            Some(interval) => Err(format!(
                "{kind} of `{service}` runs every {interval:?}, and its last run is kept for {keep:?}: set operations.keep \
                 to {interval:?} or more"
            )),
        }
    }

    /// The kind of a type of saga.
    ///
    /// # Errors
    ///
    /// Two steps of one name, or two pivots: one line that says so.
    pub fn saga<S: Saga>(saga: S) -> Result<Self, String> {
        plan::check(S::KIND, S::STEPS)?;
        let concurrency = saga.concurrency().max(1);
        let saga = Arc::new(saga);
        let run = move |attempt: Arc<Attempt>, input: Vec<u8>| -> Boxed<Outcome> {
            let saga = Arc::clone(&saga);
            Box::pin(
                async move { run_saga(&*saga, attempt, &input).await.unwrap_or_else(|it| Outcome::Returned(Err(it))) },
            )
        };
        let (run, attempts) = (Box::new(run), S::ATTEMPTS.into());
        // A saga is undone before its end.
        let clean_up: Function<Ended, Result<(), Status>> = Box::new(|_, _| Box::pin(async { Ok(()) }));
        Ok(Self { name: S::KIND, attempts, concurrency, is_saga: true, schedule: None, run, clean_up })
    }
}

async fn run_work<W: Work>(work: &W, attempt: &Attempt, input: &[u8]) -> Result<Any, Status> {
    let request = decode::<W::Request>(input)?;
    let response = work.run(attempt, request).await.map_err(|error| peer::unreadable(error.into()))?;
    Any::from_msg(&response).map_err(|error| internal(Arc::new(error)))
}

async fn run_saga<S: Saga>(saga: &S, attempt: Arc<Attempt>, input: &[u8]) -> Result<Outcome, Status> {
    let request = decode::<S::Request>(input)?;
    let journal = Journal::load(attempt).await?;
    if let Some(step) = unknown(&journal.steps(), S::STEPS) {
        tracing::error!(
            operation = journal.attempt.name(),
            kind = S::KIND,
            step = step.name,
            "the saga has begun a step that this program does not have: run a program that has it, then resume"
        );
        let change = journal.attempt.change().await?;
        let error = wire(&unknown_step(&step.name)).encode_to_vec();
        journal.write(change, &step.name, |row, _| row.error = error, |_, _| ()).await?;
        return Ok(Outcome::Stuck);
    }
    if journal.attempt.phase == Phase::Undoing {
        undo(saga, &journal, &request).await?;
        return Ok(Outcome::Returned(Ok(Any::default())));
    }
    let forward = Forward { journal, steps: S::STEPS };
    Ok(Outcome::Returned(run_forward(saga, &forward, request).await))
}

async fn run_forward<S: Saga>(saga: &S, forward: &Forward, request: S::Request) -> Result<Any, Status> {
    let journal = &forward.journal;
    let returned = saga.run(forward, request).await.map_err(|error| peer::unreadable(error.into()));
    match returned {
        Ok(response) => match journal.begun().pop() {
            None => Any::from_msg(&response).map_err(|error| internal(Arc::new(error))),
            Some(open) => Err(without_outcome(&open.name)),
        },
        Err(failure) => {
            let (error, is_final) = (wire(&failure).encode_to_vec(), !is_transient(failure.code()));
            for step in journal.begun() {
                let failed = |row: &mut StepRow, now| {
                    row.error.clone_from(&error);
                    // Without a final answer, the outcome is not known.
                    if is_final {
                        (row.state, row.ended) = (StepState::Failed, now);
                    }
                };
                journal.write(journal.attempt.change().await?, &step.name, failed, |_, _| ()).await?;
            }
            Err(failure)
        }
    }
}

/// Undoes the steps that have begun, the last one first.
async fn undo<S: Saga>(saga: &S, journal: &Journal, request: &S::Request) -> Result<(), Status> {
    for step in journal.steps().into_iter().rev().filter(|step| step.state != StepState::Undone) {
        let undo = Undo::new(journal, step.name.clone());
        match saga.undo(&undo, &step.name, request).await.map_err(|error| peer::unreadable(error.into())) {
            Ok(()) => undo.finish().await?,
            Err(failure) => {
                undo.fail(&failure).await?;
                return Err(failure);
            }
        }
    }
    Ok(())
}

fn decode<R: Message + Default>(input: &[u8]) -> Result<R, Status> {
    R::decode(input).map_err(|error| internal(Arc::new(error)))
}

/// A step that has begun and that the program does not have.
fn unknown<'a>(begun: &'a [StepRow], steps: &[Step]) -> Option<&'a StepRow> {
    begun.iter().find(|row| row.state != StepState::Undone && steps.iter().all(|step| step.name != row.name))
}

fn unknown_step(step: &str) -> Status {
    let message = format!("the program that runs the saga has no step `{step}`");
    status(Code::FailedPrecondition, DOMAIN, "SAGA_STEP_UNKNOWN", message)
}

/// The work has swallowed the error of a remote step. The saga is undone, since it would not be whole.
fn without_outcome(step: &str) -> Status {
    let cause = sqlx::Error::Protocol(format!("the saga succeeded, and its step `{step}` has no known outcome"));
    internal(Arc::new(cause))
}
