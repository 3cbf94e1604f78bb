//! Measures a reader that has nothing: the snapshot of all rows of a service, and what it costs in memory.

use std::time::Instant;

use anyhow::Context as _;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;

use super::plan::Plan;
use super::site::Site;
use crate::machine::Place;
use crate::report::{Report, Samples};
use crate::server::resident;

pub(super) async fn measure(place: &Place, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let site = Site::start(place).await?;
    site.fill(plan.rows).await?;
    // The first one grows what later ones use again.
    snapshot(&site).await?;
    let before = resident(std::process::id());
    let mut rate = Samples::default();
    for _ in 0..plan.rounds {
        rate.push(snapshot(&site).await?);
    }
    report.alone(&format!("rows/s of a snapshot of {}, {}", plan.rows, place.engine), &rate, "17,000");
    let what = "MB of memory that the snapshots added";
    match (before, resident(std::process::id())) {
        (Some(before), Some(after)) => {
            let mut grown = Samples::default();
            grown.push((after - before).max(0.0) / 1e6);
            report.alone(what, &grown, "flat");
        }
        _ => report.missing(what, "needs /proc"),
    }
    Ok(())
}

async fn snapshot(site: &Site) -> anyhow::Result<f64> {
    let (mut stream, begin, mut rows) = (site.subscribe(Vec::new()).await?, Instant::now(), 0_u32);
    loop {
        match stream.message().await?.and_then(|response| response.frame).context("the stream ended")? {
            Frame::Snapshot(_) => rows += 1,
            Frame::CaughtUp(_) => return Ok(f64::from(rows) / begin.elapsed().as_secs_f64()),
            _ => {}
        }
    }
}
