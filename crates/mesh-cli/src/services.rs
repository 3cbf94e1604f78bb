//! Lists services with their addresses and their health, from Consul or from one process.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use consul_api_client::health::{CheckStatus, HealthCheck, Instance};
use mesh_proto::grpc::health::v1::HealthCheckRequest;
use mesh_proto::grpc::health::v1::health_check_response::ServingStatus;
use mesh_proto::grpc::health::v1::health_client::HealthClient;
use mesh_rpc::discovery::is_service;
use tonic::Code;

use crate::reflection;
use crate::shown::{self, Table};
use crate::target::{Address, Consul, Process, Target};

/// The digits of a digest that are shown: enough to distinguish the builds of one service.
const SHOWN_DIGITS: usize = 12;

/// Prints a line for each instance in Consul, or for each contract of one process.
pub(crate) async fn list(target: &Target) -> anyhow::Result<ExitCode> {
    match target {
        Target::Consul(consul) => registered(consul).await?,
        Target::Process(process) => contracts(process).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn registered(consul: &Consul) -> anyhow::Result<()> {
    let services = consul.services().await?;
    let probes = Probes::of(consul).await;
    let mut table = Table::new(["SERVICE", "INSTANCE", "ADDRESS", "VERSION", "BUILD", "HEALTH", "WHY"]);
    for service in services {
        for instance in consul.instances(&service).await?.into_iter().filter(is_service) {
            let address = Address::of(&instance).map_or("-".to_owned(), |address| address.to_string());
            let (health, why) = health(&instance, &probes);
            let [version, build] = build(&instance);
            table.row([service.clone(), instance.service.id, address, version, build, health.to_owned(), why]);
        }
    }
    if table.is_empty() {
        let address = &consul.address;
        shown::note(&format!("Consul at {address} knows no services, or MESH__CONSUL__TOKEN may not read them"));
    } else {
        write!(io::stdout(), "{table}")?;
    }
    Ok(())
}

/// The version of an instance, and the begin of the digest of its executable; `-` if it registers none, as a service of
/// another framework.
fn build(instance: &Instance) -> [String; 2] {
    let meta = |key: &str, length| {
        let value = instance.service.meta.get(key).filter(|value| !value.is_empty());
        value.map_or("-".to_owned(), |value| value.chars().take(length).collect())
    };
    [meta("version", usize::MAX), meta("digest", SHOWN_DIGITS)]
}

/// The checks of the agent's own node.
///
/// An agent reports a new status of a check to the catalog at once, but a new output alone only every few minutes. For
/// that long, the catalog has no output of an instance that never passed.
#[derive(Default)]
struct Probes {
    node: String,
    checks: BTreeMap<String, HealthCheck>,
}

impl Probes {
    /// Empty if the agent does not answer; the catalog has the status of each check anyway.
    async fn of(consul: &Consul) -> Self {
        let agent = consul.client.agent();
        match (agent.info().await, agent.checks().await) {
            (Ok(info), Ok(checks)) => Self { node: info.node_name, checks },
            _ => Self::default(),
        }
    }

    fn newest<'a>(&'a self, check: &'a HealthCheck, node: &str) -> &'a HealthCheck {
        let own = self.checks.get(&check.id).filter(|own| node == self.node && own.status == check.status);
        own.unwrap_or(check)
    }
}

/// The health of an instance, and the output of its worst check.
fn health(instance: &Instance, probes: &Probes) -> (&'static str, String) {
    let status = instance.status();
    let health = match status {
        CheckStatus::Passing => return ("passing", String::new()),
        CheckStatus::Warning => "warning",
        CheckStatus::Critical => "critical",
    };
    let worst = instance.checks.iter().filter(|check| check.status == status);
    let mut worst = worst.map(|check| probes.newest(check, &instance.node.name));
    let output = worst.find_map(|check| check.output.lines().find(|line| !line.trim().is_empty()));
    (health, output.unwrap_or("the check has no output yet").to_owned())
}

async fn contracts(process: &Process) -> anyhow::Result<()> {
    let mut table = Table::new(["SERVICE", "ADDRESS", "HEALTH"]);
    for contract in reflection::served(process).await? {
        let health = serving(process, &contract).await?;
        table.row([contract, process.address.to_string(), health]);
    }
    write!(io::stdout(), "{table}")?;
    // A registry `static` or `dns` is the configuration of each process, and has no list of processes.
    let address = &process.address;
    shown::note(&format!(
        "this is the process at {address} alone: --address asks another one, and --consul lists all that are registered"
    ));
    Ok(())
}

/// The health of a contract as its process reports it; `-` if the process reports none.
async fn serving(process: &Process, contract: &str) -> anyhow::Result<String> {
    let request = HealthCheckRequest { service: contract.to_owned() };
    let health = match process.answer(HealthClient::new(process.channel.clone()).check(request)).await? {
        Ok(answer) => match answer.status() {
            ServingStatus::Serving => "serving",
            ServingStatus::NotServing => "not serving",
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => "unknown",
        },
        Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => "-",
        Err(status) => return Err(anyhow!(shown::status(&status))).context(contract.to_owned()),
    };
    Ok(health.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instance(checks: serde_json::Value) -> Instance {
        let service = json!({"ID": "a-1", "Service": "a"});
        let instance = json!({"Node": {"Node": "here", "Address": "10.0.0.7"}, "Service": service, "Checks": checks});
        serde_json::from_value(instance).unwrap()
    }

    #[test]
    fn health_of_a_failing_instance_has_one_line_of_output() {
        let none = Probes::default();
        let node = json!({"CheckID": "serfHealth", "Status": "passing", "Output": "Agent alive"});
        assert_eq!(health(&instance(json!([node])), &none), ("passing", String::new()));
        let refused = json!({"CheckID": "service:a-1", "Status": "critical", "Output": "\nrefused\nby 10.0.0.7"});
        assert_eq!(health(&instance(json!([node, refused])), &none), ("critical", "refused".to_owned()));
    }

    #[test]
    fn build_is_the_version_and_the_begin_of_the_digest() {
        let mut instance = instance(json!([]));
        assert_eq!(build(&instance), ["-", "-"]);
        for (key, value) in [("version", "1.2.3"), ("digest", "0123456789abcdef")] {
            instance.service.meta.insert(key.to_owned(), value.to_owned());
        }
        assert_eq!(build(&instance), ["1.2.3", "0123456789ab"]);
    }

    #[test]
    fn health_prefers_the_agents_own_checks_on_its_own_node() {
        let silent = instance(json!([{"CheckID": "service:a-1", "Status": "critical"}]));
        assert_eq!(health(&silent, &Probes::default()).1, "the check has no output yet");
        let own = json!({"service:a-1": {"CheckID": "service:a-1", "Status": "critical", "Output": "refused"}});
        let mut probes = Probes { node: "here".to_owned(), checks: serde_json::from_value(own).unwrap() };
        assert_eq!(health(&silent, &probes).1, "refused");
        probes.node = "elsewhere".to_owned();
        assert_eq!(health(&silent, &probes).1, "the check has no output yet");
    }
}
