//! Measures whole lifecycles of operations without work: start, claim, end.
//!
//! 64 callers start operations. Each start takes a slot, and the work releases it: so about 64 operations are between
//! start and end. A round ends when all of its operations are done. The owner's counter shows that: every change of an
//! operation increments it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::Row as _;
use tokio::sync::Semaphore;

use crate::limit::{Loops, Sequence};
use crate::machine::{Engine, Machine};
use crate::plan::Plan;
use crate::report::{Report, Samples};
use crate::service::{Instantly, Site};

const CALLERS: usize = 64;
/// The changes of an operation: started, claimed, done.
const CHANGES: i64 = 3;
/// The limit for the remaining operations to end.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn measure(machine: &Machine, engine: Engine, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let what = format!("whole lifecycles/s, {engine}, {CALLERS} in flight");
    let place = match machine.place(engine, "lifecycles").await? {
        Ok(place) => place,
        Err(why) => {
            report.missing(&what, &why);
            return Ok(());
        }
    };
    let slots = Arc::new(Semaphore::new(CALLERS));
    let site = Arc::new(Site::start(&place, Instantly { slots: Arc::clone(&slots) }).await?);
    let mut loops = Loops::open(&place, engine.writers()).await?;
    let (mut mesh, mut rows) = (Samples::default(), Samples::default());
    for _ in 0..plan.rounds {
        mesh.push(lifecycles(&site, &slots, plan.turn).await?);
        rows.push(loops.rate(Sequence::Lifecycles, plan.turn).await?);
    }
    let goal = if engine == Engine::Sqlite { "2,000" } else { "1,000" };
    report.compare(&what, &mesh, "a statement a row", &rows, goal);
    Ok(())
}

async fn lifecycles(site: &Arc<Site>, slots: &Arc<Semaphore>, time: Duration) -> anyhow::Result<f64> {
    let (begin, before) = (Instant::now(), changes(site).await?);
    let callers = (0..CALLERS).map(|_| {
        let (site, slots) = (Arc::clone(site), Arc::clone(slots));
        tokio::spawn(async move {
            let mut started = 0_i64;
            while begin.elapsed() < time {
                slots.acquire().await?.forget();
                site.begin::<Instantly>(false).await?;
                started += 1;
            }
            anyhow::Ok(started)
        })
    });
    let (callers, mut started) = (callers.collect::<Vec<_>>(), 0);
    for caller in callers {
        started += caller.await??;
    }
    while changes(site).await? < before + CHANGES * started {
        ensure!(begin.elapsed() < time + LIMIT, "operations do not end");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(started as f64 / begin.elapsed().as_secs_f64())
}

async fn changes(site: &Site) -> anyhow::Result<i64> {
    let changes = sqlx::query("SELECT COALESCE(max(next), 0) FROM feed_owner");
    Ok(changes.fetch_one(site.store.reader()).await?.try_get(0)?)
}
