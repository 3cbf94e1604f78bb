//! Measures starts of operations: by 64 callers at once, the same with a row of the service's own, and by one caller
//! alone. All operations have one owner, whose counter they share; then the same with a hundred owners.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh::testing::as_caller;

use crate::limit::{Loops, MOST, Sequence};
use crate::machine::{Engine, Machine};
use crate::plan::Plan;
use crate::report::{Report, Samples};
use crate::service::{Site, Undone};

/// The number of concurrent callers.
const CALLERS: usize = 64;
/// The number of owners, where there are several.
const OWNERS: u32 = 100;

/// The load of the callers.
#[derive(Clone, Copy, Default)]
struct Load {
    callers: usize,
    /// Whether each start also stores a row of the service's own.
    thing: bool,
    /// Whether the operations have a hundred owners.
    owners: bool,
}

#[derive(Default)]
struct Measured {
    mesh: Samples,
    mesh_owners: Samples,
    mesh_things_owners: Samples,
    rows: Samples,
    sets: Samples,
    mesh_things: Samples,
    rows_things: Samples,
    mesh_alone: Samples,
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
        measured.mesh.push(mesh_rate(&site, load, plan.turn).await?);
        measured.mesh_owners.push(mesh_rate(&site, Load { owners: true, ..load }, plan.turn).await?);
        measured.rows.push(loops.rate(starts(MOST, false), plan.turn).await?);
        measured.sets.push(loops.rate(Sequence::Sets, plan.turn).await?);
        measured.mesh_things.push(mesh_rate(&site, Load { thing: true, ..load }, plan.turn).await?);
        let owners = Load { thing: true, owners: true, ..load };
        measured.mesh_things_owners.push(mesh_rate(&site, owners, plan.turn).await?);
        measured.rows_things.push(loops.rate(starts(MOST, true), plan.turn).await?);
        measured.mesh_alone.push(mesh_rate(&site, Load { callers: 1, ..load }, plan.turn).await?);
        measured.row_alone.push(alone.rate(starts(1, false), plan.turn).await?);
    }
    add_rows(engine, &measured, report);
    Ok(())
}

fn add_rows(engine: Engine, measured: &Measured, report: &mut Report) {
    let goal = |goal| if engine == Engine::Sqlite { goal } else { "" };
    let Measured { mesh, mesh_owners, mesh_things_owners, rows, sets, mesh_things, rows_things, mesh_alone, row_alone } =
        measured;
    let what = format!("Starts/s, {engine}, {CALLERS} callers");
    report.compare(&what, mesh, "a statement a row", rows, goal("5,000"));
    report.compare(&what, mesh, "a statement a table", sets, goal("5,000"));
    let what = format!("the same of {OWNERS} owners, {engine}");
    report.compare(&what, mesh_owners, "a statement a row", rows, goal("5,000"));
    let what = format!("the same with a row of the service's own, {engine}");
    report.compare(&what, mesh_things, "a statement a row", rows_things, goal("1,500"));
    let what = format!("with such a row, of {OWNERS} owners, {engine}");
    report.compare(&what, mesh_things_owners, "a statement a row", rows_things, goal("1,500"));
    let what = format!("Starts/s, {engine}, one caller");
    report.compare(&what, mesh_alone, "a commit of the same rows", row_alone, goal("one fsync each"));
}

/// Starts a second; each caller starts again when it has its answer.
async fn mesh_rate(site: &Arc<Site>, load: Load, time: Duration) -> anyhow::Result<f64> {
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
