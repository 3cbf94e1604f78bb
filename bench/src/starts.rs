//! How fast operations can be started: 64 callers at once, the same with a row of the service's own, and one caller
//! alone. All of them are one owner's, whose counter they share; then the same of a hundred owners.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh::testing::as_caller;

use crate::limit::{Loops, MOST, Sequence};
use crate::machine::{Engine, Machine};
use crate::plan::Plan;
use crate::report::{Report, Samples};
use crate::service::{Site, Undone};

/// How many ask at once.
const CALLERS: usize = 64;
/// Whose operations they are, where they are not all of one.
const OWNERS: u32 = 100;

/// What callers do.
#[derive(Clone, Copy, Default)]
struct Load {
    callers: usize,
    /// Whether a row of the service's own goes with each operation.
    thing: bool,
    /// Whether operations are of a hundred owners.
    owners: bool,
}

#[derive(Default)]
struct Measured {
    kit: Samples,
    kit_owners: Samples,
    kit_things_owners: Samples,
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
        let load = Load { callers: CALLERS, ..Load::default() };
        measured.kit.push(kit(&site, load, plan.turn).await?);
        measured.kit_owners.push(kit(&site, Load { owners: true, ..load }, plan.turn).await?);
        measured.rows.push(loops.rate(starts(MOST, false), plan.turn).await?);
        measured.sets.push(loops.rate(Sequence::Sets, plan.turn).await?);
        measured.kit_things.push(kit(&site, Load { thing: true, ..load }, plan.turn).await?);
        let owners = Load { thing: true, owners: true, ..load };
        measured.kit_things_owners.push(kit(&site, owners, plan.turn).await?);
        measured.rows_things.push(loops.rate(starts(MOST, true), plan.turn).await?);
        measured.kit_alone.push(kit(&site, Load { callers: 1, ..load }, plan.turn).await?);
        measured.row_alone.push(alone.rate(starts(1, false), plan.turn).await?);
    }
    tell(engine, &measured, report);
    Ok(())
}

fn tell(engine: Engine, measured: &Measured, report: &mut Report) {
    let goal = |goal| if engine == Engine::Sqlite { goal } else { "" };
    let Measured { kit, kit_owners, kit_things_owners, rows, sets, kit_things, rows_things, kit_alone, row_alone } =
        measured;
    let what = format!("Starts/s, {engine}, {CALLERS} callers");
    report.compare(&what, kit, "a statement a row", rows, goal("5,000"));
    report.compare(&what, kit, "a statement a table", sets, goal("5,000"));
    let what = format!("the same of {OWNERS} owners, {engine}");
    report.compare(&what, kit_owners, "a statement a row", rows, goal("5,000"));
    let what = format!("the same with a row of the service's own, {engine}");
    report.compare(&what, kit_things, "a statement a row", rows_things, goal("1,500"));
    let what = format!("with such a row, of {OWNERS} owners, {engine}");
    report.compare(&what, kit_things_owners, "a statement a row", rows_things, goal("1,500"));
    let what = format!("Starts/s, {engine}, one caller");
    report.compare(&what, kit_alone, "a commit of the same rows", row_alone, goal("one fsync each"));
}

/// Starts per second, each caller asking again when it has its answer.
async fn kit(site: &Arc<Site>, load: Load, time: Duration) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let callers = (0..u32::try_from(load.callers)?).map(|caller| {
        let site = Arc::clone(site);
        tokio::spawn(async move {
            let mut started = 0_u32;
            while begin.elapsed() < time {
                let begin = site.begin::<Undone>(load.thing);
                if load.owners {
                    as_caller(format!("owner {}", (7 * caller + started) % OWNERS), begin).await?;
                } else {
                    begin.await?;
                }
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
