//! How fast operations can be begun and ended, with work of no length: started, claimed, done.
//!
//! 64 callers start them and wait for room before each, which the work gives back: so about 64 are between their start
//! and their end. A round ends when all that it has started is done; that is read off the owner's counter, which every
//! change of an operation raises by one.

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
/// Started, claimed, done.
const CHANGES: i64 = 3;
/// What does not end within this does not end.
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
    let room = Arc::new(Semaphore::new(CALLERS));
    let site = Arc::new(Site::start(&place, Instantly { room: Arc::clone(&room) }).await?);
    let mut loops = Loops::open(&place, engine.writers()).await?;
    let (mut kit, mut rows) = (Samples::default(), Samples::default());
    for _ in 0..plan.rounds {
        kit.push(lifecycles(&site, &room, plan.turn).await?);
        rows.push(loops.rate(Sequence::Lifecycles, plan.turn).await?);
    }
    let goal = if engine == Engine::Sqlite { "2,000" } else { "1,000" };
    report.compare(&what, &kit, "a statement a row", &rows, goal);
    Ok(())
}

async fn lifecycles(site: &Arc<Site>, room: &Arc<Semaphore>, time: Duration) -> anyhow::Result<f64> {
    let (begin, before) = (Instant::now(), changes(site).await?);
    let callers = (0..CALLERS).map(|_| {
        let (site, room) = (Arc::clone(site), Arc::clone(room));
        tokio::spawn(async move {
            let mut started = 0_i64;
            while begin.elapsed() < time {
                room.acquire().await?.forget();
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
