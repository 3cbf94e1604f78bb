//! Measures a service that keeps a copy, in one process with its source, each with a database of its own: how fast it
//! catches up, how long a writer beside it waits meanwhile, and the time from a commit to its effect.
//!
//! The reference applies the same rows in transactions of as many, each with the place, and reads nothing.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh::events::{Applying, Follow, Publish as _};
use mesh::store::Error;
use mesh::{Migration, Service, Store};
use sqlx::{AnyConnection, Connection as _, Row as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::plan::Plan;
use super::site::{Made, SERVICE, Site};
use crate::machine::{Engine, Machine, Place};
use crate::report::{Report, Samples};

const MIGRATIONS: &[Migration] = &[Migration::new(
    1,
    "shelved",
    "CREATE TABLE shelved (name TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL, generation BIGINT NOT NULL);
     CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY);
     CREATE TABLE bare (id BIGINT NOT NULL PRIMARY KEY, position BIGINT NOT NULL);
     INSERT INTO bare (id, position) VALUES (1, 0);",
)];
const PUT: &str = "INSERT INTO shelved (name, text, generation) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET text = excluded.text, generation = excluded.generation";
/// The events of a transaction, as many as mesh applies in one.
const BATCH: usize = 256;
/// The pause between events whose time is measured, and between the writes beside a follower.
const APART: Duration = Duration::from_millis(10);

/// The copy. It sends the time when the effect of an event has committed.
struct Shelf(Option<mpsc::UnboundedSender<Instant>>);

impl Follow for Shelf {
    const SOURCE: &'static str = SERVICE;
    type Event = Made;

    async fn apply(&self, tx: &mut Applying<'_>, made: Made) -> Result<(), Error> {
        let put = sqlx::query(PUT).bind(made.name).bind(made.text).bind(tx.generation());
        put.execute(&mut ***tx).await?;
        if let Some(applied) = self.0.clone() {
            tx.after_commit(move || {
                // No one waits for it after the measurement.
                let _ = applied.send(Instant::now());
            });
        }
        Ok(())
    }

    async fn sweep(&self, tx: &mut Applying<'_>, before: i64) -> Result<(), Error> {
        sqlx::query("DELETE FROM shelved WHERE generation < $1").bind(before).execute(&mut ***tx).await?;
        Ok(())
    }
}

/// The source and the follower, and the store of the follower.
struct Both {
    site: Site,
    shelf: Store,
}

impl Both {
    async fn start(
        source: &Place,
        shelf: &Place,
        applied: Option<mpsc::UnboundedSender<Instant>>,
    ) -> anyhow::Result<Self> {
        let (sender, store) = std::sync::mpsc::channel();
        let service = Service::new("shelf", &[]).owns(MIGRATIONS).follows(move |resources| {
            // If the receiver is gone, the start has already failed.
            let _ = sender.send(resources.store());
            Shelf(applied)
        });
        let site = Site::start_with(source, Some((service, shelf))).await?;
        Ok(Self { site, shelf: store.recv().context("the follower was not built")? })
    }

    /// Ends both, and closes their databases.
    async fn stop(self) {
        self.site.stop().await;
    }

    /// Waits until the follower is where the source is.
    async fn caught_up(&self) -> anyhow::Result<()> {
        let head = sqlx::query("SELECT head FROM events_head").fetch_one(self.site.store.reader()).await?;
        let head: i64 = head.try_get(0)?;
        // Nothing is behind the snapshot of an empty source.
        let place = "SELECT position FROM mesh_followers WHERE whole > 0 AND (position >= $1 OR $1 = 0)";
        while sqlx::query(place).bind(head).fetch_optional(self.shelf.reader()).await?.is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

pub(super) async fn measure(machine: &Machine, source: &Place, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let shelf = machine.place(source.engine, "shelf").await?.map_err(|why| anyhow::anyhow!(why))?;
    // What an empty source has is its snapshot: all that comes later are events.
    let both = Both::start(source, &shelf, None).await?;
    both.caught_up().await?;
    both.stop().await;
    let mut bare = shelf.connect().await?;
    let [mut rate, mut reference, mut beside] = [(); 3].map(|()| Samples::default());
    for _ in 0..plan.rounds {
        let site = Site::start(source).await?;
        site.fill(plan.behind).await?;
        site.stop().await;
        let (events, longest) = catch_up(source, &shelf, plan.behind).await?;
        rate.push(events);
        beside.push(longest);
        reference.push(bare_rate(&mut bare, plan.behind).await?);
    }
    let sqlite = source.engine == Engine::Sqlite;
    let goal = if sqlite { "40,000" } else { "7,000" };
    report.compare(&format!("events applied/s, behind, {}", source.engine), &rate, "the same rows", &reference, goal);
    report.alone(&format!("ms of a writer beside it, {}, p99", source.engine), &beside, "15");
    latency(source, &shelf, plan, report).await
}

/// Events applied a second, and the milliseconds that 99 of 100 writes of another task took meanwhile.
async fn catch_up(source: &Place, shelf: &Place, behind: usize) -> anyhow::Result<(f64, f64)> {
    let begin = Instant::now();
    let both = Both::start(source, shelf, None).await?;
    let (store, ended) = (both.shelf.clone(), CancellationToken::new());
    let end = ended.clone().drop_guard();
    let writer = tokio::spawn(async move {
        let mut writes = Samples::default();
        while !ended.is_cancelled() {
            let begin = Instant::now();
            note(&store).await?;
            writes.push(begin.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(APART).await;
        }
        Ok::<_, Error>(writes)
    });
    both.caught_up().await?;
    let rate = behind as f64 / begin.elapsed().as_secs_f64();
    drop(end);
    let writes = writer.await??;
    both.stop().await;
    Ok((rate, writes.percentile(0.99)))
}

async fn note(store: &Store) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    let note = sqlx::query("INSERT INTO notes (id) VALUES ($1)").bind(Uuid::now_v7().to_string());
    note.execute(&mut *tx).await?;
    tx.commit().await
}

async fn bare_rate(connection: &mut AnyConnection, rows: usize) -> anyhow::Result<f64> {
    let begin = Instant::now();
    for batch in 0..rows.div_ceil(BATCH) {
        let mut tx = connection.begin().await?;
        for _ in 0..BATCH {
            let made = Made::new();
            sqlx::query(PUT).bind(made.name).bind(made.text).bind(1_i64).execute(&mut *tx).await?;
        }
        let place = sqlx::query("UPDATE bare SET position = $1 WHERE id = 1").bind(i64::try_from(batch)?);
        place.execute(&mut *tx).await?;
        tx.commit().await?;
    }
    Ok((rows.div_ceil(BATCH) * BATCH) as f64 / begin.elapsed().as_secs_f64())
}

/// The time from the return of a commit to that of the commit of its effect.
async fn latency(source: &Place, shelf: &Place, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (sender, mut applied) = mpsc::unbounded_channel();
    let both = Both::start(source, shelf, Some(sender)).await?;
    both.caught_up().await?;
    while applied.try_recv().is_ok() {}
    let [mut half, mut most] = [Samples::default(), Samples::default()];
    for _ in 0..plan.rounds {
        let mut times = Samples::default();
        for _ in 0..plan.events {
            let mut tx = both.site.store.begin().await?;
            tx.publish(&Made::new())?;
            tx.commit().await?;
            let committed = Instant::now();
            let applied = applied.recv().await.context("the follower has ended")?;
            times.push(applied.saturating_duration_since(committed).as_secs_f64() * 1e3);
            tokio::time::sleep(APART).await;
        }
        half.push(times.percentile(0.5));
        most.push(times.percentile(0.99));
    }
    both.stop().await;
    for (share, samples, goal) in [("50", &half, "5"), ("99", &most, "25")] {
        let what = format!("ms from commit to effect, {}, p{share}", source.engine);
        report.alone(&what, samples, if source.engine == Engine::Sqlite { goal } else { "" });
    }
    Ok(())
}
