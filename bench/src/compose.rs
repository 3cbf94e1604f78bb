//! Measures a composed answer: the home screen of a television with 50 titles, in the example `film`.
//!
//! `cargo run --profile bench-run -p bench -- compose` prints one table; docs/BENCHMARKS.md explains it. The system is
//! that of the project, in one process and in a process a service behind the gateway. The references are a client that
//! makes the same calls itself, one after the other, and a join over both databases, which no service may make.
//!
//! Modules: [`system`] starts the programs and fills them, [`join`] is the hand-written join.

mod join;
mod system;

use std::time::Instant;

use anyhow::ensure;
use serde_json::Value;

use crate::edge::load::Caller;
use crate::report::{Report, Samples};
use crate::server::cpu_time;
use system::System;

/// The titles of a screen.
const TITLES: usize = 50;
/// Callers at the same time, with a connection each.
const CALLERS: usize = 16;
const TELEVISION: &str = "/v1/tv/home";
const PHONE: &str = "/v1/mobile/home?page_size=50";

/// The extent of a measurement: rounds, and screens of a turn.
struct Plan {
    rounds: usize,
    screens: usize,
}

pub(crate) async fn measure(quick: bool) -> anyhow::Result<()> {
    let plan = if quick { Plan { rounds: 2, screens: 20 } } else { Plan { rounds: 7, screens: 1_000 } };
    let mut report = Report::default();
    for (place, system) in [("one process", System::together().await?), ("over loopback", System::apart().await?)] {
        system.fill(TITLES).await?;
        compare(&plan, place, &system, &mut report).await?;
        if place == "one process" {
            beside_a_join(&plan, &system, &mut report).await?;
            bytes(&system, &mut report).await?;
        }
    }
    println!("{report}");
    Ok(())
}

/// The paths of the calls that a client without a composer makes, one after the other.
async fn calls_of_a_client(system: &System) -> anyhow::Result<[String; 2]> {
    let titles = format!("/v1/titles?page_size={TITLES}&order_by=create_time%20desc");
    let listed: Value = serde_json::from_slice(&Caller::http1(system.edge).await?.call(&titles).await?)?;
    let ids = listed["titles"].as_array().into_iter().flatten().filter_map(|title| title["titleId"].as_str());
    let ids: Vec<_> = ids.map(|id| format!("title_ids={id}")).collect();
    ensure!(ids.len() == TITLES, "there are {} titles, not {TITLES}", ids.len());
    Ok([titles, format!("/v1/artworks:batchGet?{}", ids.join("&"))])
}

/// The screen by one call, beside the calls of a client: the time of one caller, and the CPU time with many.
async fn compare(plan: &Plan, place: &str, system: &System, report: &mut Report) -> anyhow::Result<()> {
    let (composed, apart) = (vec![TELEVISION.to_owned()], calls_of_a_client(system).await?.to_vec());
    let [mut mesh, mut client] = [(); 2].map(|()| [(); 3].map(|()| Samples::default()));
    for _ in 0..plan.rounds {
        for (paths, samples) in [(&composed, &mut mesh), (&apart, &mut client)] {
            let alone = turn(system, paths, 1, plan.screens / 5).await?;
            let many = turn(system, paths, CALLERS, plan.screens).await?;
            samples[0].push(1e3 / alone.rate);
            samples[1].push(many.rate);
            samples[2].push(many.cpu);
        }
    }
    let client_makes = "a client's two calls";
    for (at, what) in
        ["ms a screen, 1 caller", "screens/s, 16 callers", "µs of CPU a screen, 16 callers"].iter().enumerate()
    {
        report.compare(&format!("{what}, {place}"), &mesh[at], client_makes, &client[at], "");
    }
    Ok(())
}

async fn beside_a_join(plan: &Plan, system: &System, report: &mut Report) -> anyhow::Result<()> {
    let (mut mesh, mut joined) = (Samples::default(), Samples::default());
    let mut join = join::Join::open(system).await?;
    for _ in 0..plan.rounds {
        mesh.push(1e3 / turn(system, &[TELEVISION.to_owned()], 1, plan.screens / 5).await?.rate);
        let begin = Instant::now();
        for _ in 0..plan.screens / 5 {
            ensure!(join.rows(TITLES).await? == TITLES, "the join has other titles");
        }
        joined.push(begin.elapsed().as_secs_f64() * 1e3 / (plan.screens / 5) as f64);
    }
    report.compare("ms a screen, 1 caller, one process", &mesh, "a join over both databases", &joined, "");
    Ok(())
}

async fn bytes(system: &System, report: &mut Report) -> anyhow::Result<()> {
    let mut caller = Caller::http1(system.edge).await?;
    let mut length = async |path: &str| -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        samples.push(caller.call(path).await?.len() as f64);
        Ok(samples)
    };
    let (phone, television) = (length(PHONE).await?, length(TELEVISION).await?);
    report.compare("bytes of 50 titles, for a phone", &phone, "for a television", &television, "");
    report.alone("bytes of a phone's home screen, 10 titles", &length("/v1/mobile/home").await?, "");
    Ok(())
}

struct Turn {
    /// Screens a second.
    rate: f64,
    /// Microseconds of CPU of a screen, in all processes; not a number without /proc.
    cpu: f64,
}

/// Some callers get some screens, each by these calls one after the other.
async fn turn(system: &System, paths: &[String], callers: usize, screens: usize) -> anyhow::Result<Turn> {
    let mut calling = Vec::new();
    for _ in 0..callers {
        calling.push(Caller::http1(system.edge).await?);
    }
    let used = || system.processes().map(|process| cpu_time(process).unwrap_or_default()).sum::<std::time::Duration>();
    let (before, begin) = (used(), Instant::now());
    let each = screens.div_ceil(callers);
    futures_util::future::try_join_all(calling.iter_mut().map(async |caller| {
        for _ in 0..each {
            for path in paths {
                caller.call(path).await?;
            }
        }
        anyhow::Ok(())
    }))
    .await?;
    let (took, screens) = (begin.elapsed(), (each * callers) as f64);
    let cpu = (used().saturating_sub(before)).as_secs_f64() * 1e6 / screens;
    Ok(Turn { rate: screens / took.as_secs_f64(), cpu })
}
