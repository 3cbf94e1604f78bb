//! Being found, and finding others, through Consul: a real agent, which comes late, forgets, and goes away.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::artwork::tiny_picture;
use crate::drain::half_a_call;
use crate::harness::{Consul, Grpcurl, Process, command, eventually, root, uuid};

/// How often the agent looks, and how long it waits for an answer, together.
const UNTIL_CRITICAL: Duration = Duration::from_secs(2);
/// What a busy machine may take on top.
const SLACK: Duration = Duration::from_secs(3);

fn start(binary: &str, consul: &Consul) -> Process {
    Process::start(binary, &[("MESH__REGISTRY", &consul.registry())])
}

/// The code and the reason of a call for which artwork has to ask the catalog.
fn ask(artwork: &Process) -> (String, String) {
    let request = json!({"request_id": uuid(), "title_id": uuid(), "image": tiny_picture()});
    artwork.grpcurl().call_with_input("artwork.v1.ArtworkService/RenderArtwork", &request).failure()
}

fn answered() -> (String, String) {
    ("NotFound".to_owned(), "TITLE_NOT_FOUND".to_owned())
}

fn status(instance: &Value) -> &str {
    let checks = instance["Checks"].as_array().expect("checks");
    let own = checks.iter().find(|check| check["ServiceID"] != "").expect("a check of the service");
    own["Status"].as_str().expect("a status")
}

fn times(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn a_service_is_passing_within_two_seconds_of_its_start() {
    let Some(consul) = Consul::start() else { return };
    let catalog = start("catalog", &consul);
    let begin = Instant::now();
    let found = consul.passing("catalog", 1);
    assert!(begin.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", begin.elapsed());

    let service = &found[0]["Service"];
    assert_eq!(service["Address"], "127.0.0.1");
    assert_eq!(service["Port"], catalog.address.port());
    assert_eq!(service["Tags"], json!(["grpc", "v1"]));
    // And it stays so: the agent's own probes succeed.
    eventually("the agent has looked", || {
        let checks = consul.get("/v1/agent/checks");
        let output = checks[format!("catalog-127.0.0.1-{}:grpc", catalog.address.port())]["Output"].as_str()?;
        output.contains("success").then_some(())
    });
    assert_eq!(status(&consul.instances("catalog")[0]), "passing");
}

#[test]
fn the_monolith_registers_all_its_services() {
    let Some(consul) = Consul::start() else { return };
    let monolith = start("monolith", &consul);
    for service in ["catalog", "artwork"] {
        assert_eq!(consul.passing(service, 1)[0]["Service"]["Port"], monolith.address.port());
    }
    assert_eq!(monolith.http("/readyz").lines().next(), Some("HTTP/1.1 200 OK"));
}

#[test]
fn who_is_asked_to_end_is_gone_from_consul_before() {
    let Some(consul) = Consul::start() else { return };
    let mut catalog = start("catalog", &consul);
    let found = consul.passing("catalog", 1);
    // A call in flight holds the process for as long as its drain may take.
    let _half = half_a_call(&catalog);
    catalog.signal("TERM");
    eventually("it is gone", || consul.instances("catalog").is_empty().then_some(()));
    assert!(catalog.runs(), "it was gone only when the process was");
    catalog.ended();
    let id = found[0]["Service"]["ID"].as_str().expect("an id").to_owned();
    assert!(catalog.log().lines().any(|line| line.contains("deregistered") && line.contains(&id)));
    assert!(consul.instances("catalog").is_empty(), "it has come back");
}

#[test]
fn who_is_killed_is_critical_and_who_comes_back_takes_its_place() {
    let Some(consul) = Consul::start() else { return };
    let catalog = start("catalog", &consul);
    consul.passing("catalog", 1);
    let address = catalog.address.to_string();
    let folder = catalog.kill();
    let begin = Instant::now();
    eventually("it is critical", || (status(&consul.instances("catalog")[0]) == "critical").then_some(()));
    assert!(begin.elapsed() < UNTIL_CRITICAL + SLACK, "{:?}", begin.elapsed());

    let environment = [("MESH__REGISTRY", &*consul.registry()), ("MESH__LISTEN", &address)];
    let _again = Process::start_in(folder, "catalog", &environment);
    consul.passing("catalog", 1);
    assert_eq!(consul.instances("catalog").len(), 1, "its ghost is still there");
}

#[test]
fn an_agent_may_come_late_and_is_missed_once() {
    let Some(other) = Consul::start() else { return };
    // Where it is known that an agent can be.
    let ports = other.ports;
    let registry = other.registry();
    drop(other);
    let environment = [("MESH__REGISTRY", &*registry)];
    let catalog = Process::start("catalog", &environment);
    let artwork = Process::start("artwork", &environment);
    if Grpcurl::installed() {
        assert_eq!(ask(&artwork), ("Unavailable".to_owned(), "NO_ENDPOINTS".to_owned()), "it serves without");
    }
    let Some(consul) = Consul::start_at(ports, &json!({}), None) else { panic!("no agent starts") };
    consul.passing("catalog", 1);
    consul.passing("artwork", 1);
    if Grpcurl::installed() {
        eventually("the catalog is found", || (ask(&artwork) == answered()).then_some(()));
    }
    for process in [catalog, artwork] {
        assert_eq!(times(&process.log(), "Consul is away"), 1, "{}", process.log());
        eventually("it says so", || (times(&process.log(), "Consul is back") == 1).then_some(()));
    }
}

#[test]
fn an_agent_that_is_never_there_is_told_of_once() {
    // It takes connections and closes them, and counts how often it was asked.
    let agent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let registry = format!("consul://{}", agent.local_addr().expect("an address"));
    let mut artwork = Process::start("artwork", &[("MESH__REGISTRY", &registry)]);
    for _ in 0..12 {
        drop(agent.accept().expect("it is asked again"));
    }
    assert_eq!(times(&artwork.log(), "Consul is away"), 1, "{}", artwork.log());
    artwork.signal("TERM");
    drop(agent);
    let (status, took) = artwork.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < SLACK, "{took:?}");
}

#[test]
fn an_agent_that_has_forgotten_is_told_again() {
    let Some(mut consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (_catalog, artwork) = (start("catalog", &consul), start("artwork", &consul));
    consul.passing("catalog", 1);
    eventually("the catalog is found", || (ask(&artwork) == answered()).then_some(()));

    consul.kill();
    assert_eq!(ask(&artwork), answered(), "what was known goes on");
    eventually("it is missed", || (times(&artwork.log(), "Consul is away") == 1).then_some(()));
    assert_eq!(ask(&artwork), answered(), "what was known goes on");

    consul.restart();
    let begin = Instant::now();
    consul.passing("catalog", 1);
    consul.passing("artwork", 1);
    assert!(begin.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", begin.elapsed());
    eventually("the catalog is found", || (ask(&artwork) == answered()).then_some(()));
}

#[test]
fn what_somebody_else_took_out_is_put_back() {
    let Some(consul) = Consul::start() else { return };
    let catalog = start("catalog", &consul);
    consul.passing("catalog", 1);
    let id = format!("catalog-127.0.0.1-{}", catalog.address.port());
    consul.put(&format!("/v1/agent/service/deregister/{id}"), &Value::Null);
    eventually("it is registered again", || (times(&catalog.log(), "registered in Consul") == 2).then_some(()));
    consul.passing("catalog", 1);
}

#[test]
fn calls_go_to_all_instances_and_not_to_those_that_went() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (one, other) = (start("catalog", &consul), start("catalog", &consul));
    consul.passing("catalog", 2);
    let artwork = start("artwork", &consul);
    let asked = |catalog: &Process| catalog.http("/metrics").contains(r#"grpc_method="GetTitle""#);
    eventually("both are asked", || {
        assert_eq!(ask(&artwork), answered());
        (asked(&one) && asked(&other)).then_some(())
    });

    let mut one = one;
    one.signal("TERM");
    one.ended();
    eventually("artwork knows", || {
        let instances = format!("instances\":\"{}\"", other.address);
        artwork.log().contains(&instances).then_some(())
    });
    for _ in 0..5 {
        assert_eq!(ask(&artwork), answered(), "nobody asks the one that went");
    }
}

#[test]
fn calls_that_are_made_while_an_instance_leaves_do_not_fail() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (mut one, _other) = (start("catalog", &consul), start("catalog", &consul));
    consul.passing("catalog", 2);
    let artwork = start("artwork", &consul);
    eventually("both are known", || artwork.log().contains(&one.address.to_string()).then_some(()));
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| (0..20).map(|_| ask(&artwork)).collect::<Vec<_>>());
        one.signal("TERM");
        one.ended();
        let answers = calling.join().expect("calls");
        assert!(answers.iter().all(|answer| *answer == answered()), "{answers:?}");
    });
}

#[test]
fn an_agent_that_stands_still_is_noticed_and_holds_nobody() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (mut catalog, artwork) = (start("catalog", &consul), start("artwork", &consul));
    consul.passing("catalog", 1);
    eventually("the catalog is found", || (ask(&artwork) == answered()).then_some(()));

    // It accepts connections, and answers nothing.
    consul.signal("STOP");
    eventually("it is noticed", || {
        assert_eq!(ask(&artwork), answered(), "what was known goes on");
        (times(&artwork.log(), "Consul is away") == 1).then_some(())
    });
    catalog.signal("TERM");
    let (status, took) = catalog.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < SLACK, "{took:?}");
    consul.signal("CONT");
    eventually("it is back", || (times(&artwork.log(), "Consul is back") == 1).then_some(()));
}

/// A token for what a file of deploy/consul/policies allows.
fn token(consul: &Consul, name: &str) -> String {
    let rules = root().join("deploy/consul/policies").join(name).with_extension("hcl");
    let rules = std::fs::read_to_string(rules).expect("a policy");
    // An agent has a leader a moment before it knows of its first token.
    eventually("the agent knows its token", || {
        consul.try_put("/v1/acl/policy", &json!({"Name": name, "Rules": rules}))
    });
    let token = consul.put("/v1/acl/token", &json!({"Policies": [{"Name": name}]}));
    token["SecretID"].as_str().expect("a token").to_owned()
}

#[test]
fn the_policies_allow_what_a_service_does_and_no_more() {
    let secret = "11111111-1111-1111-1111-111111111111";
    // As in deploy/consul/agent.hcl; `master` is what every version understands.
    let acl = json!({"enabled": true, "default_policy": "deny", "tokens": {"master": secret}});
    let Some(consul) = Consul::start_with(json!({"acl": acl}), Some(secret)) else { return };
    let (catalogs, artworks) = (token(&consul, "catalog"), token(&consul, "artwork"));
    let people = token(&consul, "operator");
    let start = |binary, token: &str| {
        Process::start(binary, &[("MESH__REGISTRY", &consul.registry()), ("MESH__CONSUL__TOKEN", token)])
    };
    let _catalog = start("catalog", &catalogs);
    consul.passing("catalog", 1);

    let pretender = start("artwork", &catalogs);
    let refused =
        eventually("it is refused", || pretender.log().lines().find(|line| line.contains("ERROR")).map(str::to_owned));
    for words in ["Consul does not let us register", "service:write on artwork", "MESH__CONSUL__TOKEN"] {
        assert!(refused.contains(words), "{refused}");
    }
    assert!(!pretender.log().contains(&catalogs), "the log holds a token");
    assert!(consul.instances("artwork").is_empty());

    let artwork = start("artwork", &artworks);
    consul.passing("artwork", 1);
    let mut mesh = command("mesh");
    mesh.args(["--consul", &consul.address.to_string(), "services"]).env("MESH__CONSUL__TOKEN", people);
    let seen = mesh.output().expect("mesh runs");
    let seen = String::from_utf8(seen.stdout).expect("UTF-8");
    assert!(seen.contains("catalog-127.0.0.1") && seen.contains("artwork-127.0.0.1"), "{seen}");
    if Grpcurl::installed() {
        eventually("the catalog is found", || (ask(&artwork) == answered()).then_some(()));
    }
}

#[test]
fn the_files_of_services_are_what_consul_takes_and_name_what_services_do() {
    for service in ["catalog", "artwork"] {
        let Some(consul) = Consul::start() else { return };
        let address = format!("127.0.0.1:{}", if service == "catalog" { 50051 } else { 50052 });
        let file = root().join("deploy/consul/services").join(service).with_extension("hcl");
        consul.register_file(&file);
        let id = format!("{service}-{}", address.replace(':', "-"));
        let by_file = consul.get(&format!("/v1/agent/service/{id}"));
        let checks = consul.get("/v1/agent/checks");

        // The address in the file may be taken on this machine, so what is said of another is compared.
        let process = start(service, &consul);
        let own_id = format!("{service}-{}", process.address.to_string().replace(':', "-"));
        let own = eventually("it is registered", || consul.get("/v1/agent/services").get(&own_id).cloned());
        for key in ["Service", "Tags", "Address", "Weights"] {
            assert_eq!(by_file[key], own[key], "{key} of {service}");
        }
        let own_checks = consul.get("/v1/agent/checks");
        let (by_file, own) = (&checks[format!("{id}:grpc")], &own_checks[format!("{own_id}:grpc")]);
        for key in ["Name", "Type", "ServiceName"] {
            assert_eq!(by_file[key], own[key], "{key} of the check of {service}");
        }
    }
}
