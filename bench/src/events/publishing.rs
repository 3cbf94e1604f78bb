//! Measures rows that 64 callers write at once, each in a transaction of its own: alone, with an event, and with the
//! common way to number events, a counter that each transaction raises.

use std::time::{Duration, Instant};

use mesh::events::Publish as _;
use mesh::store::Error;
use mesh::{Store, Transaction};
use prost::Message as _;
use sqlx::Row as _;

use super::plan::Plan;
use super::site::{Made, Site, THING};
use crate::machine::{Engine, Place};
use crate::report::{Report, Samples};

/// The number of concurrent callers.
const CALLERS: usize = 64;

/// What a transaction writes beside its row.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    Event,
    /// A row that is numbered by a counter in the same transaction.
    Counted,
}

pub(super) async fn measure(place: &Place, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let site = Site::start(place).await?;
    let sides = [Beside::Event, Beside::Nothing, Beside::Counted];
    let mut measured = [(); 3].map(|()| Samples::default());
    for _ in 0..plan.rounds {
        for (beside, samples) in sides.into_iter().zip(&mut measured) {
            samples.push(rate(&site, beside, plan.turn).await?);
        }
    }
    let [event, alone, counted] = &measured;
    let [of_alone, of_counted] = if place.engine == Engine::Sqlite { ["0.8 ×", ""] } else { ["0.5 ×", "3 ×"] };
    let what = format!("rows with an event/s, {}, {CALLERS} callers", place.engine);
    report.compare(&what, event, "the row alone", alone, of_alone);
    report.compare(&what, event, "numbered by a counter", counted, of_counted);
    Ok(())
}

/// Transactions a second. The time includes the numbering of all events.
async fn rate(site: &Site, beside: Beside, time: Duration) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let store = site.store.clone();
        tokio::spawn(async move {
            let mut written = 0_u32;
            while begin.elapsed() < time {
                write(&store, beside).await?;
                written += 1;
            }
            Ok::<_, Error>(written)
        })
    });
    let (callers, mut all) = (callers.collect::<Vec<_>>(), 0);
    for caller in callers {
        all += caller.await??;
    }
    site.numbered().await?;
    Ok(f64::from(all) / begin.elapsed().as_secs_f64())
}

async fn write(store: &Store, beside: Beside) -> Result<(), Error> {
    let made = Made::new();
    let mut tx = store.begin().await?;
    sqlx::query(THING).bind(&made.name).bind(&made.text).execute(&mut *tx).await?;
    match beside {
        Beside::Nothing => {}
        Beside::Event => tx.publish(&made)?,
        Beside::Counted => count(&mut tx, &made).await?,
    }
    tx.commit().await
}

async fn count(tx: &mut Transaction, made: &Made) -> Result<(), Error> {
    let raise = sqlx::query("UPDATE counter SET next = next + 1 WHERE id = 1 RETURNING next");
    let position: i64 = raise.fetch_one(&mut **tx).await?.try_get(0)?;
    let row = sqlx::query("INSERT INTO counted (position, key, payload) VALUES ($1, $2, $3)").bind(position);
    row.bind(&made.name).bind(made.encode_to_vec()).execute(&mut **tx).await?;
    Ok(())
}
