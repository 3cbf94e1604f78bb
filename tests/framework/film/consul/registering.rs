//! Registration.

use std::time::{Duration, Instant};

use harness::{Consul, Process, Proxy, command, eventually};
use serde_json::{Value, json};

use super::{SLACK, start, times};

/// The agent's check interval and its timeout together.
const UNTIL_CRITICAL: Duration = Duration::from_secs(2);

fn status(instance: &Value) -> &str {
    let checks = instance["Checks"].as_array().expect("checks");
    let own = checks.iter().find(|check| check["ServiceID"] != "").expect("a check of the service");
    own["Status"].as_str().expect("a status")
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn registration_is_passing_within_two_seconds() {
    let Some(consul) = Consul::start() else { return };
    let catalog = start("catalog", &consul);
    let begin = Instant::now();
    let found = consul.passing("catalog", 1);
    assert!(begin.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", begin.elapsed());

    let service = &found[0]["Service"];
    assert_eq!(service["Address"], "127.0.0.1");
    assert_eq!(service["Port"], catalog.address.port());
    assert_eq!(service["Tags"], json!(["grpc", "v1"]));
    let digest = service["Meta"]["digest"].as_str().expect("a digest");
    assert_eq!(digest.len(), 64, "{digest}");
    assert_eq!(service["Meta"], json!({"version": env!("CARGO_PKG_VERSION"), "digest": digest}));
    let build = format!(r#"mesh_build_info{{version="{}",digest="{digest}"}} 1"#, env!("CARGO_PKG_VERSION"));
    eventually("the metric has the build", || catalog.http("/metrics").contains(&build).then_some(()));
    let mut mesh = command("mesh");
    let listed = mesh.args(["--consul", &consul.address.to_string(), "services"]).output().expect("mesh runs");
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    let row: Vec<_> = listed.lines().flat_map(str::split_whitespace).skip_while(|word| *word != "catalog").collect();
    assert_eq!(row[3..], [env!("CARGO_PKG_VERSION"), &digest[..12], "passing"], "{listed}");
    // The status stays: the agent's own probes succeed.
    eventually("the agent has probed the service", || {
        let checks = consul.get("/v1/agent/checks");
        let output = checks[format!("catalog-127.0.0.1-{}:grpc", catalog.address.port())]["Output"].as_str()?;
        output.contains("success").then_some(())
    });
    assert_eq!(status(&consul.instances("catalog")[0]), "passing");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn monolith_registers_all_its_services() {
    let Some(consul) = Consul::start() else { return };
    let monolith = start("monolith", &consul);
    for service in ["catalog", "artwork"] {
        assert_eq!(consul.passing(service, 1)[0]["Service"]["Port"], monolith.address.port());
    }
    assert_eq!(monolith.http("/readyz").lines().next(), Some("HTTP/1.1 200 OK"));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn killed_instance_is_critical_until_its_successor_registers() {
    let Some(consul) = Consul::start() else { return };
    let catalog = start("catalog", &consul);
    consul.passing("catalog", 1);
    let address = catalog.address.to_string();
    let folder = catalog.kill();
    let begin = Instant::now();
    eventually("the instance is critical", || (status(&consul.instances("catalog")[0]) == "critical").then_some(()));
    assert!(begin.elapsed() < UNTIL_CRITICAL + SLACK, "{:?}", begin.elapsed());

    let environment = [("MESH__REGISTRY", &*consul.registry()), ("MESH__LISTEN", &address)];
    let _again = Process::start_in(folder, "catalog", &environment);
    consul.passing("catalog", 1);
    assert_eq!(consul.instances("catalog").len(), 1, "the killed instance is still registered");
}

#[test]
#[ignore = "needs Consul, and up to two minutes: .ci/foreign"]
fn killed_instance_is_removed_after_a_minute() {
    let Some(consul) = Consul::start() else { return };
    let catalog = start("catalog", &consul);
    consul.passing("catalog", 1);
    catalog.kill();
    let begin = Instant::now();
    while !consul.instances("catalog").is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(120), "the instance is still registered");
        let _ = consul.index("/v1/health/service/catalog?index=1&wait=1s");
    }
    assert!(begin.elapsed() > Duration::from_secs(55), "{:?}", begin.elapsed());
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn deregistered_service_is_registered_again() {
    let Some(consul) = Consul::start() else { return };
    let catalog = start("catalog", &consul);
    consul.passing("catalog", 1);
    let id = format!("catalog-127.0.0.1-{}", catalog.address.port());
    consul.put(&format!("/v1/agent/service/deregister/{id}"), &Value::Null);
    eventually("the service is registered again", || {
        (times(&catalog.log(), "registered in Consul") == 2).then_some(())
    });
    consul.passing("catalog", 1);
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn repeated_registration_moves_no_index() {
    let Some(consul) = Consul::start() else { return };
    let proxy = Proxy::to(consul.address);
    let catalog = Process::start("catalog", &[("MESH__REGISTRY", &format!("consul://{}", proxy.address))]);
    consul.passing("catalog", 1);
    let id = format!("catalog-127.0.0.1-{}", catalog.address.port());
    eventually("the agent has probed the service", || {
        let checks = consul.get("/v1/agent/checks");
        checks[format!("{id}:grpc")]["Output"].as_str()?.contains("success").then_some(())
    });
    // After a cut connection, the process cannot know whether the agent lost its data, so it registers again.
    let again = |number| {
        proxy.cut();
        eventually("the service is registered again", || {
            (times(&catalog.log(), "registered in Consul") == number).then_some(())
        });
    };
    // With the first repeat, the agent also sends the servers the check's output, which it had held back.
    let health = "/v1/health/service/catalog";
    let first = consul.index(health);
    again(2);
    let before = consul.index(&format!("{health}?index={first}&wait=1s"));
    again(3);
    // A blocking query gets no change.
    assert_eq!(consul.index(&format!("{health}?index={before}&wait=3s")), before);
}
