//! Measures the edge in the process of the service, beside gRPC to the same process: what JSON costs more.

use super::load::{Caller, Measured, apart, turn};
use super::plan::Plan;
use crate::calls::peer::Side;
use crate::report::Report;

const CALLERS: usize = 32;
const PATH: &str = "/v1/services/bench/operations/0193a0c1-8f3e-7c55-9d5e-2b0c4d1f6a7b";

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let server = tokio::task::spawn_blocking(|| Side::Mesh.server()).await??;
    let address = server.address()?;
    let mut sides = [
        ("HTTP/1.1, a connection a caller", apart(CALLERS, async || Caller::http1(address).await).await?),
        ("HTTP/2, one connection", shared(Caller::http2(address).await?)),
        ("gRPC, a connection a caller", apart(CALLERS, async || Caller::grpc(address).await).await?),
        ("gRPC, one connection", shared(Caller::grpc(address).await?)),
    ];
    let mut measured = [(); 4].map(|()| Measured::default());
    for (_, callers) in &mut sides {
        turn(callers, server.id(), PATH, plan.requests / 2, &mut Measured::default()).await?;
    }
    for _ in 0..plan.rounds {
        for ((_, callers), measured) in sides.iter_mut().zip(&mut measured) {
            turn(callers, server.id(), PATH, plan.requests, measured).await?;
        }
    }
    for json in [0, 1] {
        let (ours, grpc) = (&measured[json], &measured[json + 2]);
        let (name, reference) = (sides[json].0, sides[json + 2].0);
        report.compare(&format!("requests/s, JSON, {name}"), &ours.rate, reference, &grpc.rate, "");
        let what = format!("µs of CPU a request, JSON, {name}");
        match ours.cpu.len() {
            0 => report.missing(&what, "needs /proc"),
            _ => report.compare(&what, &ours.cpu, reference, &grpc.cpu, "1.3 ×"),
        }
    }
    Ok(())
}

fn shared(caller: Caller) -> Vec<Caller> {
    let more = (1..CALLERS).filter_map(|_| caller.beside()).collect::<Vec<_>>();
    std::iter::once(caller).chain(more).collect()
}
