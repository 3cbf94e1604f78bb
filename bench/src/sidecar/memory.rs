//! The memory of a proxy with many connections, each with a call that was answered, and what is left of it after waves
//! of connections that close.

use super::bare::{self, Caller};
use super::plan::Plan;
use super::ways::Way;
use crate::report::{Report, Samples};
use crate::server::resident;

const MEGABYTE: f64 = 1e6;

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (server, address) = bare::start().await?;
    let ours = tokio::task::spawn_blocking(move || Way::sidecar(address)).await??;
    let theirs = Way::envoy(address).await?;
    let (mut mesh, mut envoy) = (Waves::default(), Waves::default());
    for wave in 1..=plan.waves {
        mesh.wave(wave, &ours, plan.connections).await?;
        envoy.wave(wave, &theirs, plan.connections).await?;
    }
    let what = |words: &str| format!("MB of memory, {words}, connections: {}", plan.connections);
    report.compare(&what("open, the first wave"), &mesh.open, "Envoy", &envoy.open, "45 MB");
    report.compare(&what("after the tenth wave"), &mesh.tenth, "Envoy", &envoy.tenth, "");
    report.compare(&what("after the tenth wave, and after the fifth"), &mesh.tenth, "fifth", &mesh.fifth, "1.1 ×");
    report.compare(&what("the same of Envoy"), &envoy.tenth, "fifth", &envoy.fifth, "");
    drop(server);
    Ok(())
}

/// The memory of a way: one number a wave.
#[derive(Default)]
struct Waves {
    open: Samples,
    fifth: Samples,
    tenth: Samples,
}

impl Waves {
    async fn wave(&mut self, wave: usize, way: &Way, connections: usize) -> anyhow::Result<()> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            let client = Caller::connect(way.address).await?;
            client.call().await?;
            clients.push(client);
        }
        let memory = || way.processes().into_iter().filter_map(resident).sum::<f64>() / MEGABYTE;
        if wave == 1 {
            self.open.push(memory());
        }
        drop(clients);
        // They close in the background.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        match wave {
            5 => self.fifth.push(memory()),
            10 => self.tenth.push(memory()),
            _ => {}
        }
        Ok(())
    }
}
