//! How fast operations can be started: 64 callers at once, the same with a row of the service's own, and one caller
//! alone. All of them are one owner's, whose counter they share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::limit::{Loops, MOST, Sequence};
use crate::machine::{Engine, Machine};
use crate::report::{Report, Samples};
use crate::service::{Site, Undone};

/// How many ask at once.
const CALLERS: usize = 64;

#[derive(Default)]
struct Measured {
    kit: Samples,
    rows: Samples,
    sets: Samples,
    kit_things: Samples,
    rows_things: Samples,
    kit_alone: Samples,
    row_alone: Samples,
}

pub(crate) async fn measure(machine: &Machine, engine: Engine, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let place = match machine.place(engine, "starts").await? {
        Ok(place) => place,
        Err(why) => {
            report.missing(&format!("Starts/s, {engine}"), &why);
            return Ok(());
        }
    };
    let site = Arc::new(Site::start(&place, Undone).await?);
    let mut loops = Loops::open(&place, engine.writers()).await?;
    let mut alone = Loops::open(&place, 1).await?;
    let mut measured = Measured::default();
    for _ in 0..plan.rounds {
        let starts = |operations, things| Sequence::Starts { operations, things };
        measured.kit.push(kit(&site, CALLERS, false, plan.turn).await?);
        measured.rows.push(loops.rate(starts(MOST, false), plan.turn).await?);
        measured.sets.push(loops.rate(Sequence::Sets, plan.turn).await?);
        measured.kit_things.push(kit(&site, CALLERS, true, plan.turn).await?);
        measured.rows_things.push(loops.rate(starts(MOST, true), plan.turn).await?);
        measured.kit_alone.push(kit(&site, 1, false, plan.turn).await?);
        measured.row_alone.push(alone.rate(starts(1, false), plan.turn).await?);
    }
    tell(engine, &measured, report);
    Ok(())
}

fn tell(engine: Engine, measured: &Measured, report: &mut Report) {
    let goal = |goal| if engine == Engine::Sqlite { goal } else { "" };
    let Measured { kit, rows, sets, kit_things, rows_things, kit_alone, row_alone } = measured;
    let what = format!("Starts/s, {engine}, {CALLERS} callers");
    report.compare(&what, kit, "a statement a row", rows, goal("5,000"));
    report.compare(&what, kit, "a statement a table", sets, goal("5,000"));
    let what = format!("the same with a row of the service's own, {engine}");
    report.compare(&what, kit_things, "a statement a row", rows_things, goal("1,500"));
    let what = format!("Starts/s, {engine}, one caller");
    report.compare(&what, kit_alone, "a commit of the same rows", row_alone, goal("one fsync each"));
}

/// Starts per second, each caller asking again when it has its answer.
async fn kit(site: &Arc<Site>, callers: usize, thing: bool, time: Duration) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let callers = (0..callers).map(|_| {
        let site = Arc::clone(site);
        tokio::spawn(async move {
            let mut started = 0_u32;
            while begin.elapsed() < time {
                site.begin::<Undone>(thing).await?;
                started += 1;
            }
            anyhow::Ok(started)
        })
    });
    let (callers, mut all) = (callers.collect::<Vec<_>>(), 0);
    for caller in callers {
        all += caller.await??;
    }
    Ok(f64::from(all) / begin.elapsed().as_secs_f64())
}
