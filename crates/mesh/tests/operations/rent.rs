//! A saga, reserve, charge and grant, whose effects are in an append-only table.
//!
//! Its request selects what goes wrong. `charge` and `refund` behave as a billing service does that keeps its
//! `request_id`s: a refund of an unknown charge makes a later charge fail.

use std::time::Duration;

use mesh::error::status;
use mesh::saga::{Forward, Saga, Step, Undo};
use mesh::{Migration, Store};
use mesh_proto::mesh::operations::v1::StepState;
use tonic::{Code, Status};
use uuid::Uuid;

/// `effects` has a row for each effect, and for each switch that a test turns.
pub(crate) const SCHEMA: &[Migration] = &[Migration::new(
    1,
    "effects",
    "CREATE TABLE effects (operation TEXT NOT NULL, effect TEXT NOT NULL);
    CREATE TABLE charges (request_id TEXT NOT NULL PRIMARY KEY, is_void BIGINT NOT NULL);",
)];

pub(crate) const ANSWER: i32 = 0;
pub(crate) const DECLINE: i32 = 1;
/// Charges, and never answers.
pub(crate) const CHARGE_AND_HANG: i32 = 2;
/// Never charges, and answers UNAVAILABLE.
pub(crate) const AWAY: i32 = 3;
/// Charges, and answers UNAVAILABLE the first time.
pub(crate) const LOSE_THE_ANSWER: i32 = 4;
/// Answers nothing; the charge arrives after the refund.
pub(crate) const LATE: i32 = 5;
/// Grants after the switch `mended` only; before, the grant fails for good.
pub(crate) const NO_GRANT: i32 = 6;
/// Declines, and releases after the switch `mended` only; before, that fails for good.
pub(crate) const NO_RELEASE: i32 = 7;
/// Declines, and the first refund fails for a while.
pub(crate) const REFUND_TWICE: i32 = 8;
/// Hangs between the pivot and the grant until the switch `mended`.
pub(crate) const HANG_IN_GRANT: i32 = 9;
/// Goes on although the charge was declined for a while.
pub(crate) const SWALLOW: i32 = 10;
/// Panics in its only attempts.
pub(crate) const PANIC: i32 = 11;
/// Declines, and the answer of the commit that releases is lost.
pub(crate) const LOSE_THE_COMMIT: i32 = 12;

/// The saga. With a `DEADLINE` of an hour, it is `Rent`.
pub(crate) struct Rent<const DEADLINE: u64 = 3600> {
    pub(crate) store: Store,
}

impl<const DEADLINE: u64> Saga for Rent<DEADLINE> {
    const KIND: &'static str = if DEADLINE == 3600 { "Rent" } else { "RentSoon" };
    const STEPS: &'static [Step] = &[Step::local("reserve"), Step::remote("charge").pivot(), Step::local("grant")];
    const ATTEMPTS: u32 = 2;
    const DEADLINE: Duration = Duration::from_secs(DEADLINE);
    type Request = prost_types::Duration;
    type Response = prost_types::Duration;
    type Error = Status;

    async fn run(&self, saga: &Forward, request: prost_types::Duration) -> Result<prost_types::Duration, Status> {
        if saga.finished::<()>("reserve")?.is_none() {
            let mut step = saga.local("reserve").await?;
            log(&mut step, &saga.name(), "reserve").await?;
            step.commit(&()).await?;
        }
        let billing = Billing { store: self.store.clone(), operation: saga.name() };
        let charged = saga.remote("charge", |id| billing.charge(id, request.nanos)).await;
        match charged {
            Err(_) if request.nanos == SWALLOW => return Ok(request),
            charged => charged?,
        };
        while request.nanos == HANG_IN_GRANT && !is_mended(&self.store).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if request.nanos == NO_GRANT && !is_mended(&self.store).await {
            return Err(status(Code::NotFound, "work", "NO_GRANT", "there is nothing to grant"));
        }
        if saga.finished::<()>("grant")?.is_none() {
            let mut step = saga.local("grant").await?;
            log(&mut step, &saga.name(), "grant").await?;
            step.commit(&()).await?;
        }
        Ok(request)
    }

    async fn undo(&self, saga: &Undo<'_>, step: &str, request: &prost_types::Duration) -> Result<(), Status> {
        let billing = Billing { store: self.store.clone(), operation: saga.name() };
        match step {
            "charge" => {
                if saga.finished::<()>("charge")?.is_some() {
                    billing.log("result").await?;
                }
                billing.refund(saga.request_id("charge"), request.nanos).await
            }
            "reserve" if request.nanos == NO_RELEASE && !is_mended(&self.store).await => {
                Err(status(Code::NotFound, "work", "NO_RELEASE", "there is nothing to release"))
            }
            "reserve" if request.nanos == LOSE_THE_COMMIT => {
                // What `saga.local()` commits, and then the error that the caller gets.
                let mut tx = self.store.begin().await?;
                log(&mut tx, &saga.name(), "release").await?;
                let undone = sqlx::query("UPDATE saga_steps SET state = $1 WHERE operation = $2 AND name = 'reserve'");
                let undone = undone.bind(i64::from(i32::from(StepState::Undone)));
                undone.bind(saga.name().rsplit('/').next().unwrap().to_owned()).execute(&mut *tx).await.unwrap();
                tx.commit().await?;
                Err(Status::unavailable("the answer of the commit is lost"))
            }
            "reserve" => {
                let mut undo = saga.local().await?;
                log(&mut undo, &saga.name(), "release").await?;
                Ok(undo.commit().await?)
            }
            step => panic!("undo of {step}"),
        }
    }
}

struct Billing {
    store: Store,
    operation: String,
}

impl Billing {
    async fn log(&self, effect: &str) -> Result<(), Status> {
        let mut tx = self.store.begin().await?;
        log(&mut tx, &self.operation, effect).await?;
        Ok(tx.commit().await?)
    }

    async fn charge(self, id: Uuid, then: i32) -> Result<(), Status> {
        match then {
            DECLINE | NO_RELEASE | REFUND_TWICE | LOSE_THE_COMMIT => {
                return Err(status(Code::FailedPrecondition, "billing", "CARD_DECLINED", "declined"));
            }
            AWAY | SWALLOW => return Err(status(Code::Unavailable, "billing", "AWAY", "away")),
            PANIC => panic!("on purpose"),
            LATE => {
                tokio::spawn(async move {
                    while !is_mended(&self.store).await {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    let charged = self.try_charge(id).await;
                    let mut tx = self.store.begin().await?;
                    log(&mut tx, &self.operation, if charged.is_ok() { "charged late" } else { "refused late" })
                        .await?;
                    tx.commit().await
                });
                return std::future::pending().await;
            }
            _ => {}
        }
        let is_first = self.try_charge(id).await?;
        match then {
            CHARGE_AND_HANG => std::future::pending().await,
            LOSE_THE_ANSWER if is_first => Err(Status::unavailable("the answer is lost")),
            _ => Ok(()),
        }
    }

    /// Charges once; whether this call did it.
    async fn try_charge(&self, id: Uuid) -> Result<bool, Status> {
        let mut tx = self.store.begin().await?;
        let insert = sqlx::query("INSERT INTO charges (request_id, is_void) VALUES ($1, 0) ON CONFLICT DO NOTHING");
        let is_first = insert.bind(id.to_string()).execute(&mut *tx).await.unwrap().rows_affected() == 1;
        if is_first {
            log(&mut tx, &self.operation, "charge").await?;
        }
        let find = sqlx::query_scalar("SELECT is_void FROM charges WHERE request_id = $1").bind(id.to_string());
        let is_void: i64 = find.fetch_one(&mut *tx).await.unwrap();
        tx.commit().await?;
        match is_void {
            0 => Ok(is_first),
            _ => Err(status(Code::FailedPrecondition, "billing", "CHARGE_VOIDED", "refunded before")),
        }
    }

    async fn refund(&self, id: Uuid, then: i32) -> Result<(), Status> {
        let mut tx = self.store.begin().await?;
        if then == REFUND_TWICE && count(&self.store, &self.operation, "tried").await == 0 {
            log(&mut tx, &self.operation, "tried").await?;
            tx.commit().await?;
            return Err(Status::unavailable("not now"));
        }
        let void = "INSERT INTO charges (request_id, is_void) VALUES ($1, 1) ON CONFLICT DO NOTHING";
        let is_unknown = sqlx::query(void).bind(id.to_string()).execute(&mut *tx).await.unwrap().rows_affected() == 1;
        let void = "UPDATE charges SET is_void = 1 WHERE request_id = $1 AND is_void = 0";
        let refunded = sqlx::query(void).bind(id.to_string()).execute(&mut *tx).await.unwrap().rows_affected() == 1;
        if refunded && !is_unknown {
            log(&mut tx, &self.operation, "refund").await?;
        }
        Ok(tx.commit().await?)
    }
}

async fn log(tx: &mut mesh::store::Connection, operation: &str, effect: &str) -> Result<(), mesh::store::Error> {
    let log = sqlx::query("INSERT INTO effects (operation, effect) VALUES ($1, $2)");
    log.bind(operation.to_owned()).bind(effect.to_owned()).execute(tx).await?;
    Ok(())
}

async fn is_mended(store: &Store) -> bool {
    count(store, "", "mended").await > 0
}

/// The number of effects of one kind that an operation has had.
pub(crate) async fn count(store: &Store, operation: &str, effect: &str) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM effects WHERE operation = $1 AND effect = $2");
    count.bind(operation.to_owned()).bind(effect.to_owned()).fetch_one(store.reader()).await.unwrap()
}
