//! Measures rents: a saga of three steps, reserve, charge and grant, whose charge is a transaction with an event in the
//! database of another service of the process.
//!
//! The reference writes the rows of the two services in transactions of 64, and nothing of the saga.

use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh::events::Publish as _;
use mesh::operations::Start;
use mesh::saga::{Forward, Saga, Step, Undo};
use mesh::store::Error;
use mesh::testing::Mesh;
use mesh::{Migration, Operations, Service, Store};
use sqlx::{AnyConnection, Connection as _, Row as _};
use tokio::sync::Semaphore;
use tonic::Status;
use uuid::Uuid;

use super::plan::Plan;
use super::site::Made;
use crate::machine::{Engine, Machine, Place};
use crate::report::{Report, Samples};

/// The number of concurrent callers, and the rents of a transaction of the reference.
const CALLERS: usize = 64;
/// The limit for the remaining rents to end.
const LIMIT: Duration = Duration::from_secs(30);

const RENTS: &[Migration] =
    &[Migration::new(1, "rents", "CREATE TABLE rents (id TEXT NOT NULL PRIMARY KEY, state BIGINT NOT NULL);")];
/// The publisher's events are of the package `things`.
const CHARGES: &[Migration] =
    &[Migration::new(1, "charges", "CREATE TABLE charges (id TEXT NOT NULL PRIMARY KEY, state BIGINT NOT NULL);")];
const RESERVE: &str = "INSERT INTO rents (id, state) VALUES ($1, 1)";
const GRANT: &str = "UPDATE rents SET state = 2 WHERE id = $1";
const CHARGE: &str = "INSERT INTO charges (id, state) VALUES ($1, 1) ON CONFLICT (id) DO NOTHING";

type Message = prost_types::Duration;

/// The saga. Each start takes a slot, and the last step releases it.
struct Rent {
    charges: Arc<OnceLock<Store>>,
    slots: Arc<Semaphore>,
}

impl Rent {
    async fn charge(&self, id: Uuid) -> Result<(), Status> {
        let charges = self.charges.get().ok_or_else(|| Status::unavailable("no database"))?;
        let mut tx = charges.begin().await?;
        sqlx::query(CHARGE).bind(id.to_string()).execute(&mut *tx).await.map_err(Error::from)?;
        tx.publish(&Made::new())?;
        Ok(tx.commit().await?)
    }
}

impl Saga for Rent {
    const KIND: &'static str = "Rent";
    const STEPS: &'static [Step] = &[Step::local("reserve"), Step::remote("charge").pivot(), Step::local("grant")];
    const CONCURRENCY: usize = CALLERS;
    type Request = Message;
    type Response = Message;
    type Error = Status;

    async fn run(&self, saga: &Forward, request: Message) -> Result<Message, Status> {
        let steps = [("reserve", RESERVE), ("grant", GRANT)];
        for (name, statement) in steps {
            let mut step = saga.local(name).await?;
            sqlx::query(statement).bind(saga.name()).execute(&mut *step).await.map_err(Error::from)?;
            step.commit(&()).await?;
            if name == "reserve" {
                saga.remote("charge", |id| self.charge(id)).await?;
            }
        }
        self.slots.add_permits(1);
        Ok(request)
    }

    async fn undo(&self, _: &Undo<'_>, _: &str, _: &Message) -> Result<(), Status> {
        Err(Status::internal("no rent fails"))
    }
}

/// The two services, and what a caller needs.
struct Shop {
    mesh: Mesh,
    operations: Operations,
    store: Store,
    slots: Arc<Semaphore>,
}

impl Shop {
    async fn start(rents: &Place, charges: &Place) -> anyhow::Result<Self> {
        let (store, slots) = (Arc::new(OnceLock::new()), Arc::new(Semaphore::new(CALLERS)));
        let (sender, resources) = mpsc::channel();
        let opened = Arc::clone(&store);
        let none = |_, _, _| async { Ok(Vec::<Made>::new()) };
        let things = Service::new("things", &[]).owns(CHARGES).publishes(none).works(move |resources| {
            opened.get_or_init(|| resources.store());
            crate::service::Undone
        });
        let rent = Rent { charges: store, slots: Arc::clone(&slots) };
        let shop = Service::new("shop", &[]).owns(RENTS).runs(move |resources| {
            // If the receiver is gone, the start has already failed.
            let _ = sender.send((resources.operations(), resources.store()));
            rent
        });
        let settings = [("things", charges), ("shop", rents)]
            .map(|(name, place)| format!("services.{name}.database_url={}", place.url));
        let mesh = Mesh::start_in(tempfile::tempdir_in(&rents.folder)?, &settings, [things, shop]).await;
        let (operations, store) = resources.recv().context("the service was not built")?;
        Ok(Self { mesh, operations, store, slots })
    }

    async fn rent(&self) -> anyhow::Result<()> {
        self.operations.start(&Start::<Rent>::saga(Uuid::new_v4(), &Message::default())).await?;
        Ok(())
    }

    /// Waits until no rent is open.
    async fn ended(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let open = "SELECT id FROM operations WHERE state < 3 LIMIT 1";
        while sqlx::query(open).fetch_optional(self.store.reader()).await?.is_some() {
            ensure!(begin.elapsed() < LIMIT, "rents do not end");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok(())
    }

    async fn failed(&self) -> anyhow::Result<i64> {
        let failed = sqlx::query("SELECT count(*) FROM operations WHERE state > 3");
        Ok(failed.fetch_one(self.store.reader()).await?.try_get(0)?)
    }
}

pub(super) async fn measure(machine: &Machine, rents: &Place, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let charges = machine.place(rents.engine, "charges").await?.map_err(|why| anyhow::anyhow!(why))?;
    let shop = Arc::new(Shop::start(rents, &charges).await?);
    let mut bare = [rents.connect().await?, charges.connect().await?];
    let [mut rate, mut reference, mut alone] = [(); 3].map(|()| Samples::default());
    for _ in 0..plan.rounds {
        rate.push(at_once(&shop, plan.turn).await?);
        reference.push(bare_rate(&mut bare, plan.turn).await?);
        let mut times = Samples::default();
        for _ in 0..plan.events.min(50) {
            let begin = Instant::now();
            shop.rent().await?;
            shop.ended().await?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            shop.slots.acquire().await?.forget();
        }
        alone.push(times.percentile(0.5));
    }
    ensure!(shop.failed().await? == 0, "rents have failed");
    let engine = rents.engine;
    let [many, one] = if engine == Engine::Sqlite { ["300", "25"] } else { [""; 2] };
    report.compare(&format!("rents/s, {engine}, {CALLERS} callers"), &rate, "the rows of both", &reference, many);
    report.alone(&format!("ms of a rent alone, {engine}, p50"), &alone, one);
    let shop = Arc::into_inner(shop).context("a caller is left")?;
    drop((shop.operations, shop.store));
    shop.mesh.drain().await;
    Ok(())
}

/// Rents a second, from the first start to the last end.
async fn at_once(shop: &Arc<Shop>, time: Duration) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let shop = Arc::clone(shop);
        tokio::spawn(async move {
            let mut started = 0_u32;
            while begin.elapsed() < time {
                shop.slots.acquire().await?.forget();
                shop.rent().await?;
                started += 1;
            }
            anyhow::Ok(started)
        })
    });
    let (callers, mut all) = (callers.collect::<Vec<_>>(), 0);
    for caller in callers {
        all += caller.await??;
    }
    shop.ended().await?;
    Ok(f64::from(all) / begin.elapsed().as_secs_f64())
}

async fn bare_rate([rents, charges]: &mut [AnyConnection; 2], time: Duration) -> anyhow::Result<f64> {
    let (begin, mut all) = (Instant::now(), 0_u32);
    while begin.elapsed() < time {
        let ids: Vec<_> = (0..CALLERS).map(|_| Uuid::now_v7().to_string()).collect();
        write(rents, RESERVE, &ids).await?;
        write(charges, CHARGE, &ids).await?;
        write(rents, GRANT, &ids).await?;
        all += u32::try_from(ids.len())?;
    }
    Ok(f64::from(all) / begin.elapsed().as_secs_f64())
}

/// Executes a statement for each id, in one transaction.
async fn write(connection: &mut AnyConnection, statement: &'static str, ids: &[String]) -> anyhow::Result<()> {
    let mut tx = connection.begin().await?;
    for id in ids {
        sqlx::query(statement).bind(id).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}
