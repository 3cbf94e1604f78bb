//! Tokens of Consul: what the policies of deploy/consul allow, and the error when a token lacks a permission.

use harness::{Consul, Curl, Grpcurl, Process, Secured, command, eventually, root};
use serde_json::json;

use super::{answered, ask};

/// A token that may do everything.
const SECRET: &str = "11111111-1111-1111-1111-111111111111";

/// An agent with the access rules of deploy/consul/agent.hcl; every version understands `master`. `None` without that
/// folder, which the owner of a project may delete.
pub(super) fn guarded() -> Option<Consul> {
    if !root().join("deploy/consul/policies").is_dir() {
        return None;
    }
    let acl = json!({"enabled": true, "default_policy": "deny", "tokens": {"master": SECRET}});
    Consul::start_with(json!({"acl": acl}), Some(SECRET))
}

/// A token with the policy of a file of deploy/consul/policies.
fn token(consul: &Consul, name: &str) -> String {
    let rules = root().join("deploy/consul/policies").join(name).with_extension("hcl");
    token_for(consul, name, &std::fs::read_to_string(rules).expect("a policy"))
}

pub(super) fn token_for(consul: &Consul, name: &str, rules: &str) -> String {
    // An agent has a leader a moment before it knows its first token.
    eventually("the agent knows its token", || {
        consul.try_put("/v1/acl/policy", &json!({"Name": name, "Rules": rules}))
    });
    let token = consul.put("/v1/acl/token", &json!({"Policies": [{"Name": name}]}));
    token["SecretID"].as_str().expect("a token").to_owned()
}

/// Everything at once: access rules and intentions of Consul, certificates and tokens of users. Consul has no
/// certificate, and checks health at the listener of the admin pages.
#[test]
#[ignore = "needs Consul: .ci/full"]
fn policies_are_enough_for_a_mesh_with_tls_and_users() {
    if !Curl::installed() {
        return;
    }
    let Some(consul) = guarded() else { return };
    let mesh = Secured::new(&["catalog", "artwork", "gateway"]);
    consul.run(&["intention", "create", "-allow", "*", "*"]);
    let registry = consul.registry();
    let start = |binary: &str| {
        let token = token(&consul, if binary == "gateway" { "operator" } else { binary });
        let settings = [
            ("MESH__REGISTRY", &*registry),
            ("MESH__CONSUL__TOKEN", &*token),
            ("MESH__ADMIN__LISTEN", "127.0.0.1:0"),
            ("MESH__AUTH__INTENTIONS", "consul"),
        ];
        mesh.start(binary, &settings)
    };
    let (catalog, artwork, gateway) = (start("catalog"), start("artwork"), start("gateway"));
    consul.passing("catalog", 1);
    consul.passing("artwork", 1);
    crate::film::users::work_belongs_to_its_user(&gateway.curl(), mesh.folder.path());
    for process in [&catalog, &artwork, &gateway] {
        assert!(!process.log().contains("ERROR"), "{}", process.log());
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn policies_allow_what_services_do_and_no_more() {
    let Some(consul) = guarded() else { return };
    let (catalogs, artworks) = (token(&consul, "catalog"), token(&consul, "artwork"));
    let people = token(&consul, "operator");
    let start = |binary, token: &str| {
        Process::start(binary, &[("MESH__REGISTRY", &consul.registry()), ("MESH__CONSUL__TOKEN", token)])
    };
    let _catalog = start("catalog", &catalogs);
    consul.passing("catalog", 1);

    let pretender = start("artwork", &catalogs);
    let refused = eventually("Consul refuses the registration", || {
        pretender.log().lines().find(|line| line.contains("ERROR")).map(str::to_owned)
    });
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
        eventually("artwork finds the catalog", || (ask(&artwork) == answered()).then_some(()));
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn token_without_node_read_is_warned_about() {
    let Some(consul) = guarded() else { return };
    // The token may register the service, but Consul hides a service from a token that may not read its node.
    let blind = token_for(&consul, "blind", r#"service "catalog" { policy = "write" }"#);
    let catalog = Process::start("catalog", &[("MESH__REGISTRY", &consul.registry()), ("MESH__CONSUL__TOKEN", &blind)]);
    consul.passing("catalog", 1);
    let warned = eventually("the warning is logged", || {
        catalog.log().lines().find(|line| line.contains("cannot see itself")).map(str::to_owned)
    });
    assert!(warned.contains("MESH__CONSUL__TOKEN") && !warned.contains(&blind), "{warned}");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn service_files_match_the_registrations_of_services() {
    if !root().join("deploy/consul/services").is_dir() {
        return;
    }
    for service in ["catalog", "artwork"] {
        let Some(consul) = Consul::start() else { return };
        let address = format!("127.0.0.1:{}", if service == "catalog" { 50051 } else { 50052 });
        let file = root().join("deploy/consul/services").join(service).with_extension("hcl");
        consul.register_file(&file);
        let id = format!("{service}-{}", address.replace(':', "-"));
        let by_file = consul.get(&format!("/v1/agent/service/{id}"));
        let checks = consul.get("/v1/agent/checks");

        // The address in the file may be taken on this machine, so the process has another one, and only the rest is
        // compared.
        let process = Process::start(service, &[("MESH__REGISTRY", &consul.registry())]);
        let own_id = format!("{service}-{}", process.address.to_string().replace(':', "-"));
        let own = eventually("the service is registered", || consul.get("/v1/agent/services").get(&own_id).cloned());
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
