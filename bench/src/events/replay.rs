//! Measures a reader that is behind: one stream over loopback, in the same process, until it has caught up. The
//! reference reads the same rows by pages, with mesh's driver.

use std::time::Instant;

use anyhow::Context as _;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use sqlx::{AnyConnection, Row as _};

use super::plan::Plan;
use super::site::Site;
use crate::machine::Place;
use crate::report::{Report, Samples};

/// The rows of a page, as many as mesh reads.
const PAGE: i64 = 64;
const ROWS: &str = "SELECT position, id, key, type, told, trace, correlation, causation, hops, payload FROM events
    WHERE position > $1 ORDER BY position LIMIT $2";

pub(super) async fn measure(place: &Place, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let site = Site::start(place).await?;
    // The snapshot of an empty service gives the cursor before the first event.
    let mut empty = site.subscribe(Vec::new()).await?;
    let cursor = empty.message().await?.context("a stream begins with a frame")?.cursor;
    drop(empty);
    site.fill(plan.behind).await?;
    let mut connection = place.connect().await?;
    let [mut stream, mut pages] = [Samples::default(), Samples::default()];
    for _ in 0..plan.rounds {
        stream.push(replay(&site, cursor.clone()).await?);
        pages.push(read(&mut connection).await?);
    }
    let what = format!("events/s of one stream that is behind, {}", place.engine);
    report.compare(&what, &stream, "rows read by pages", &pages, "60,000");
    Ok(())
}

async fn replay(site: &Site, cursor: Vec<u8>) -> anyhow::Result<f64> {
    let (mut stream, begin, mut events) = (site.subscribe(cursor).await?, Instant::now(), 0_u32);
    loop {
        match stream.message().await?.and_then(|response| response.frame).context("the stream ended")? {
            Frame::Event(_) => events += 1,
            Frame::CaughtUp(_) => return Ok(f64::from(events) / begin.elapsed().as_secs_f64()),
            Frame::Heartbeat(_) => {}
            other => anyhow::bail!("{other:?} while the events are kept"),
        }
    }
}

async fn read(connection: &mut AnyConnection) -> anyhow::Result<f64> {
    let (begin, mut after, mut rows) = (Instant::now(), 0_i64, 0_u32);
    loop {
        let page = sqlx::query(ROWS).bind(after).bind(PAGE).fetch_all(&mut *connection).await?;
        let Some(last) = page.last() else { return Ok(f64::from(rows) / begin.elapsed().as_secs_f64()) };
        after = last.try_get("position")?;
        rows += u32::try_from(page.len())?;
    }
}
