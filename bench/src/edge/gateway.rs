//! Measures a process that speaks HTTP/1.1 and JSON in front of a service: the gateway, and Envoy with its transcoder.
//! Both have the same service behind them, which runs in a process of its own, and take turns.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::ensure;
use mesh::Gateway;
use mesh::testing::Mesh;
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use serde_json::Value;

use super::envoy;
use super::load::{Caller, Measured, apart, turn};
use super::plan::Plan;
use crate::calls::peer::Side;
use crate::report::{Report, Samples};
use crate::server::{Server, resident, until_its_input_ends};

/// The connections of the callers, one for each.
const CALLERS: usize = 32;
/// What is called, with the path and the goals for the CPU time and for the requests a second.
const CALLS: [(&str, &str, &str, &str); 2] = [
    ("an operation", "/v1/services/bench/operations/0193a0c1-8f3e-7c55-9d5e-2b0c4d1f6a7b", "0.6 ×", "1.5 ×"),
    ("a list of 50", "/v1/services/bench/operations", "0.3 ×", ""),
];

/// Serves a gateway in a process of its own, in front of the service at `service`.
pub(crate) async fn serve(service: SocketAddr) -> anyhow::Result<()> {
    mesh::testing::log();
    let settings = ["registry=static".to_owned(), format!("static.bench={service}")];
    let gateway = Gateway::new(contracts());
    let gateway = Mesh::start_in(tempfile::tempdir()?, &settings, gateway).await;
    writeln!(std::io::stdout(), "{}", gateway.url())?;
    until_its_input_ends().await
}

/// The contracts of mesh, and one that names the service: a gateway knows services by their packages.
pub(crate) fn contracts() -> &'static [u8] {
    let method = MethodDescriptorProto {
        name: Some("Unused".to_owned()),
        input_type: Some(".google.protobuf.Empty".to_owned()),
        output_type: Some(".google.protobuf.Empty".to_owned()),
        ..MethodDescriptorProto::default()
    };
    let service = ServiceDescriptorProto {
        name: Some("BenchService".to_owned()),
        method: vec![method],
        ..ServiceDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("bench/v1/bench.proto".to_owned()),
        package: Some("bench.v1".to_owned()),
        dependency: vec!["google/protobuf/empty.proto".to_owned()],
        service: vec![service],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    };
    // The bytes of one set behind those of another are a set of both.
    let both = [mesh_proto::FILE_DESCRIPTOR_SET, &FileDescriptorSet { file: vec![file] }.encode_to_vec()].concat();
    both.leak()
}

/// One side: its process and the callers of it.
struct Hop {
    process: u32,
    callers: Vec<Caller>,
}

impl Hop {
    async fn to(process: u32, address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { process, callers: apart(CALLERS, async || Caller::http1(address).await).await? })
    }

    async fn answer(&mut self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.callers[0].call(path).await?)?)
    }

    /// Resident memory in megabytes.
    fn memory(&self) -> Samples {
        let mut memory = Samples::default();
        resident(self.process).into_iter().for_each(|bytes| memory.push(bytes / 1e6));
        memory
    }
}

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let service = tokio::task::spawn_blocking(|| Side::Mesh.server()).await??;
    let address = service.address()?.to_string();
    let gateway = tokio::task::spawn_blocking(move || Server::run(["serve-gateway", &address])).await??;
    let envoy = match envoy::start(service.address()?).await {
        Ok(envoy) => envoy,
        Err(why) => {
            report.missing("a gateway in front of a service", &format!("{why:#}"));
            return Ok(());
        }
    };
    let mut ours = Hop::to(gateway.id(), gateway.address()?).await?;
    let mut theirs = Hop::to(envoy.id(), envoy.address).await?;
    for (what, path, cpu, rate) in CALLS {
        let (mesh, other) = (ours.answer(path).await?, theirs.answer(path).await?);
        ensure!(mesh == other, "the answers differ: {mesh} and {other}");
        for hop in [&mut ours, &mut theirs] {
            turn(&mut hop.callers, hop.process, path, plan.requests / 2, &mut Measured::default()).await?;
        }
        let (mut mesh, mut other) = (Measured::default(), Measured::default());
        for _ in 0..plan.rounds {
            turn(&mut ours.callers, ours.process, path, plan.requests, &mut mesh).await?;
            turn(&mut theirs.callers, theirs.process, path, plan.requests, &mut other).await?;
        }
        report.compare(&format!("requests/s, gateway, {what}"), &mesh.rate, "Envoy", &other.rate, rate);
        let what = format!("µs of CPU a request, gateway, {what}");
        match mesh.cpu.len() {
            0 => report.missing(&what, "needs /proc"),
            _ => report.compare(&what, &mesh.cpu, "Envoy", &other.cpu, cpu),
        }
    }
    report.compare("MB of memory, gateway", &ours.memory(), "Envoy", &theirs.memory(), "0.25 ×");
    Ok(())
}
